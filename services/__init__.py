"""The gateway, its client, the command line, and administration. Nothing here imports torch."""
