"""A storm: random faults on a whole served system, jobs through its public API, and an oracle at
the end."""
