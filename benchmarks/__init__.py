"""Measured claims: each module prints a table and writes JSON."""
