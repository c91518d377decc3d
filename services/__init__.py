"""What users talk to: the gateway, its client, the command line, and administration. No torch in
here."""
