"""Palimpsest on one machine: `make serve`."""
