"""What this machine, or the container around this process, has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
# share of the memory that is left to the system, the store, the gateway and the file cache
_RESERVED_SHARE = 0.1


def get_memory_bytes() -> int:
    """Memory of the machine, or of the container where that has less."""
    limits = [_read_total_bytes()]
    for folder, version in iter_cgroup_folders():
        path = folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")
        if (limit := _read(path)).isdecimal():
            limits.append(int(limit))
    return min(limits)


def compute_memory_share_bytes(workers: int) -> int:
    """What each of so many workers may take when they share the memory of this machine."""
    return int(get_memory_bytes() * (1 - _RESERVED_SHARE)) // workers


def iter_cgroup_folders() -> Iterator[tuple[Path, int]]:
    """The folders of this process's memory control groups, innermost first, each with 2 or 1 for
    its version.

    In a container only the upper part of the path may be there: what is mounted is its own group.
    """
    for line in _read(_OWN_CGROUP).splitlines():
        number, controllers, name = line.split(":", 2)
        if number == "0":
            root, version = _CGROUPS, 2
        elif "memory" in controllers.split(","):
            root, version = _CGROUPS / "memory", 1
        else:
            continue
        inner = root / name.lstrip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(root):
                break
            yield folder, version


def _read_total_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo names no MemTotal")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
