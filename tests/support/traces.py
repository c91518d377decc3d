"""Searches files for traces of bytes that were deleted: digests, and any 64 bytes in a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

WINDOW = 64
# windows of fewer different bytes are in every file: zeros, padding
MIN_DISTINCT = 12
_CHUNK = 1 << 20


def _hash_windows(data: bytes) -> np.ndarray:
    """A hash of each window of 64 bytes, at every offset."""
    hashes = np.frombuffer(data, np.uint8).astype(np.uint64)
    factor, width = np.uint64(0x9E3779B97F4A7C15), 1
    with np.errstate(over="ignore"):
        while width < WINDOW:
            hashes = hashes[:-width] * factor + hashes[width:]
            factor, width = factor * factor, 2 * width
    return hashes


class Traces:
    """Secrets, and where they are found."""

    def __init__(
        self,
        secrets: Iterable[bytes],
        digests: Iterable[str] = (),
        step: int = 1,
        known: bytes = b"",
    ) -> None:
        """`secrets` are whole files; the digest of each is searched for as well.

        Args:
            step: distance between the windows of a secret, which are searched for at every offset:
                from 64 on, a trace of twice as many bytes is found in any case.
            known: windows of these bytes are no secret.
        """
        secrets = list(secrets)
        names = {hashlib.sha256(data).hexdigest() for data in secrets} | set(digests)
        self._words = [word for name in names for word in (name.encode(), bytes.fromhex(name))]
        self._data = b"".join(secrets)
        hashes, places, start = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
        for data in secrets:
            if len(data) >= WINDOW:
                hashes.append(_hash_windows(data)[::step])
                places.append(start + step * np.arange(len(hashes[-1])))
            start += len(data)
        self._hashes, first = np.unique(np.concatenate(hashes), return_index=True)
        self._places = np.concatenate(places)[first]
        if len(known) >= WINDOW:
            secret = ~np.isin(self._hashes, _hash_windows(known))
            self._hashes, self._places = self._hashes[secret], self._places[secret]

    def find(self, *folders: Path, without: str = "") -> list[str]:
        """Names of the files below that hold a trace, with its kind.

        Args:
            without: a folder's name that is left out.
        """
        return sorted(
            f"{path.name}: {kind}"
            for folder in folders
            for path in _list_files(folder)
            if without not in path.parts
            for kind in self._search(path)
        )

    def _search(self, path: Path) -> set[str]:
        kinds: set[str] = set()
        tail = b""
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                data = tail + chunk
                if any(word in data for word in self._words):
                    kinds.add("digest")
                if len(data) >= WINDOW and self._has_window(data):
                    kinds.add("data")
                tail = data[-WINDOW + 1 :]
        return kinds | ({"name"} if any(w == path.name.encode() for w in self._words) else set())

    def _has_window(self, data: bytes) -> bool:
        if not len(self._hashes):
            return False
        hashes = _hash_windows(data)
        n = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        for hit in np.unique(n[self._hashes[n] == hashes]):
            place = int(self._places[hit])
            window = self._data[place : place + WINDOW]
            if len(set(window)) >= MIN_DISTINCT and window in data:
                return True
        return False


def _list_files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    else:
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file())
