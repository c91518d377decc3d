"""Where the gateway is: what the caller says, else the environment, else what `make serve` has left here."""

from __future__ import annotations

import json
import os
from pathlib import Path

from services.client.errors import NotConfigured

SERVED = Path(".palimpsest/serve.json")


def find(url: str | None = None, token: str | None = None) -> tuple[str, str]:
    """Address and token.

    An address that is given does not go together with a token from the file, which is for another address.

    Raises:
        NotConfigured: one of them is not known.
    """
    url = url or os.environ.get("PALIMPSEST_URL")
    token = token or os.environ.get("PALIMPSEST_TOKEN")
    if url is None:
        served = _served()
        url, token = served.get("url"), token or served.get("token")
        if url is None:
            raise NotConfigured(
                f"no gateway is known: start one here with `make serve` (it writes {SERVED}), "
                "or set PALIMPSEST_URL and PALIMPSEST_TOKEN"
            )
    elif token is None:
        served = _served()
        token = served.get("token") if served.get("url", "").rstrip("/") == url.rstrip("/") else None
    if not token:
        raise NotConfigured(f"no token is known for {url}: set PALIMPSEST_TOKEN")
    if not url.startswith(("http://", "https://")):
        raise NotConfigured(f"{url!r} is not an address: it starts with http:// or https://")
    return url.rstrip("/"), token


def _served() -> dict[str, str]:
    try:
        found = json.loads(SERVED.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NotConfigured(f"{SERVED} cannot be read ({error}): start `make serve` again") from error
    return {name: str(found[name]) for name in ("url", "token") if name in found} if isinstance(found, dict) else {}
