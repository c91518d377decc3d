"""Address and token of the gateway: from the caller, the environment, or the file that `make serve`
writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .errors import NotConfigured

SERVE_FILE = Path(".palimpsest/serve.json")


def find_gateway(url: str | None = None, token: str | None = None) -> tuple[str, str]:
    """Address and token.

    The token in the file is never sent to an address other than the one in the file.

    Raises:
        NotConfigured: one of them is unknown.
    """
    url = url or os.environ.get("PALIMPSEST_URL")
    token = token or os.environ.get("PALIMPSEST_TOKEN")
    if url is None:
        recorded = _read_serve_file()
        url, token = recorded.get("url"), token or recorded.get("token")
        if url is None:
            raise NotConfigured(
                "no gateway configured: start one here with `make serve` (it writes "
                f"{SERVE_FILE}), or set PALIMPSEST_URL and PALIMPSEST_TOKEN"
            )
    elif token is None:
        recorded = _read_serve_file()
        token = (
            recorded.get("token")
            if recorded.get("url", "").rstrip("/") == url.rstrip("/")
            else None
        )
    if not token:
        raise NotConfigured(f"no token for {url}: set PALIMPSEST_TOKEN")
    if not url.startswith(("http://", "https://")):
        raise NotConfigured(
            f"{url!r} is not a valid address: it must start with http:// or https://"
        )
    return url.rstrip("/"), token


def _read_serve_file() -> dict[str, str]:
    try:
        content = json.loads(SERVE_FILE.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NotConfigured(
            f"cannot read {SERVE_FILE} ({error}): start `make serve` again"
        ) from error
    return (
        {name: str(content[name]) for name in ("url", "token") if name in content}
        if isinstance(content, dict)
        else {}
    )
