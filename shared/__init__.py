"""What gateway and workers both know. Light: importing this package imports no torch."""

from pathlib import Path

# the release that this code becomes; CHANGELOG.md has its section
RELEASE = "0.2.0"
# written by whatever builds a distribution or an image, from git; a checkout has no such file
VERSION_FILE = Path(__file__).parent / "version.txt"


def _read_version() -> str:
    try:
        return VERSION_FILE.read_text().strip()
    except FileNotFoundError:
        return f"{RELEASE}.dev0"


VERSION = _read_version()
