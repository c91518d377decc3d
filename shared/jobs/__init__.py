"""The job protocol between SQL and Celery: SQL is the truth, Redis a doorbell, fences decide.

states       job states and their transitions           records          job, worker, event as frozen data
plan         audit -> jobs, a pure function             tables           the schema
database     engine, transactions, the database clock   transitions      the one function that changes a state
submit       submission, idempotency                    dispatch         claims: which worker gets which job
attempts     renew, checkpoint, end of an attempt       reconcile        expired leases
control      cancel, retry, pause, resume               worker_registry  workers and the catalog they publish
queries      pages and lookups                          queue            wake-ups
"""
