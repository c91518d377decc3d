"""Real servers and real processes for tests."""
