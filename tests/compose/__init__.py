"""`python -m tests.compose`: docker-compose.yml on a real engine."""
