"""The self-test: cases with known answers. `python -m workers.selftest`; see README.md."""
