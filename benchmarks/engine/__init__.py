"""Rates and latencies of the engine."""
