"""How Palimpsest is put on machines."""
