"""Processes that run jobs. A worker never calls the gateway; both know the store, the queue, the
artifacts."""
