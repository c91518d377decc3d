"""Deployment of Palimpsest."""
