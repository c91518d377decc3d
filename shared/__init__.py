"""What gateway and workers both know. Light: importing this package imports no torch."""

VERSION = "0.1.0"
