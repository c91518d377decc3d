"""`palimpsest`, the command line: it uses the client and nothing else of this project."""
