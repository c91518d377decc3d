"""The job protocol between SQL and Celery: SQL is the truth, Redis a doorbell, fences decide.

states     the words and the one table of moves        records    what a job, a worker, an event is
plan       audit -> jobs, a pure function              tables     the schema
database   engine, transactions, the database's clock  moves      the one function that changes a state
submit     jobs come in                                claims     an attempt: claim, renew, finish
control    cancel, retry, hold                         reconcile  lost leases
reads      pages and lookups                           fleet      workers and the catalog they publish
queue      bells
"""
