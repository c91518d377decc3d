"""Weights that users bring: read, compared with each other, and converted. See README.md."""
