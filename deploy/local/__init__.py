"""One machine: `make serve`."""
