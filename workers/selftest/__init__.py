"""The code held against cases whose answer is known. `python -m workers.selftest`; see
README.md."""
