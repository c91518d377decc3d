"""The job protocol between SQL and Celery: SQL is the truth, Redis a doorbell, fences decide.

states           job states and their transitions
records          job, worker, event as frozen data
tables           the schema
mapping          rows <-> records
database         engine, transactions, the database clock
plan             audit -> jobs, a pure function
submit           submission, idempotency
dispatch         claims: which worker gets which job
attempts         renew, checkpoint, end of an attempt
completion       success of an attempt
transitions      the one function that changes a state
control          cancel, retry, pause, resume
reconcile        expired leases
repair           artifacts that are damaged or lost
uploads          what tenants bring
derivation       what was made of uploads
erasure          deletion of uploads with all of it
scrubbing        the database's own files after that
retention        how long each kind of thing is kept
collector        what was kept long enough, a little in each round
expiry           one batch of that, by kind
removal          ended jobs that nothing refers to
audit_deletion   deletion of audits
tenant_erasure   deletion of all that a tenant has
orphans          stored bytes that no row refers to
queries          pages and lookups
worker_registry  workers and the catalog they publish
queue            wake-ups
"""
