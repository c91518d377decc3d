"""The HTTP gateway: checks requests, stores jobs in SQL, reads SQL back. It never calls a worker."""
