"""The HTTP gateway: validates requests, stores jobs in SQL and reads them back. It never calls a
worker."""
