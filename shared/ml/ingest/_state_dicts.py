"""The state dicts in a checkpoint, and which of them is meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from shared.errors import InvalidRequest

# Under these names, frameworks keep a model's weights; the first that is there is taken. The top
# level comes before an average of the weights (ema), but after what is named, as checkpoints keep
# single tensors there, such as states of random generators.
TOP_LEVEL = ""
KNOWN_NAMES = ("state_dict", "model_state_dict", "model", "net", "module", TOP_LEVEL, "ema")
MAX_DEPTH, MAX_ENTRIES = 6, 200_000
MAX_NAMED = 20  # entries that a message or a result names


@dataclass(frozen=True)
class StateDict:
    """A dictionary of a checkpoint that holds tensors."""

    path: tuple[str, ...]
    tensors: dict[str, Tensor]
    dropped: tuple[str, ...]  # its entries that are no tensors

    @property
    def key(self) -> str:
        """Its path as `--key` takes it; empty for the top level."""
        return ".".join(self.path)


def choose_state_dict(content: Any, key: str | None) -> tuple[StateDict, list[StateDict]]:
    """The one that `key` names, or else the likeliest, and the others.

    Raises:
        InvalidRequest: no state dict was found (under this key), or several could be meant.
    """
    candidates = list(_find_state_dicts(content))
    if not candidates:
        raise InvalidRequest(
            "holds no state dict, a dictionary from names to tensors: save one with "
            "torch.save(model.state_dict(), FILE)"
        )
    if key is not None:
        selected = next((each for each in candidates if each.key == key), None)
        if selected is None:
            raise InvalidRequest(
                f"has no state dict at {key[:100]!r}: --key takes one of {list_keys(candidates)}"
            )
    elif len(candidates) == 1:
        selected = candidates[0]
    else:
        ranked = [each for each in candidates if _get_rank(each) is not None]
        if not ranked:
            raise InvalidRequest(
                f"holds several state dicts: choose with --key one of {list_keys(candidates)}"
            )
        selected = min(ranked, key=lambda each: _get_rank(each) or [])
    return selected, [each for each in candidates if each is not selected]


def list_keys(state_dicts: Sequence[StateDict]) -> str:
    """Their keys with the number of tensors of each, for people."""
    shown = [
        f"{each.key[:100]!r} ({'the top level, ' * (not each.path)}{len(each.tensors)} tensors)"
        for each in state_dicts[:MAX_NAMED]
    ]
    more = len(state_dicts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def list_siblings(content: Any, selected: StateDict, others: Sequence[StateDict]) -> list[str]:
    """The entries beside the state dict that are not tensors: epochs, optimizers and the like."""
    names: list[str] = []
    for depth, step in enumerate(selected.path):
        level = selected.path[:depth]
        state_dicts = {
            each.path[depth] for each in others if each.path[:depth] == level != each.path
        }
        names += [
            ".".join((*level, _shorten(name)))
            for name in content
            if name != step and name not in state_dicts
        ]
        content = content[step]
    return names


def _shorten(name: object) -> str:
    """An entry's name, or what it is: a tuple of tuples may take for ever to print."""
    return name[:100] if isinstance(name, str) else f"<{type(name).__name__}>"


def _get_rank(state_dict: StateDict) -> list[int] | None:
    """Lower is likelier; None for a name that says nothing."""
    path = state_dict.path or (TOP_LEVEL,)
    if not all(name in KNOWN_NAMES for name in path):
        return None
    return [KNOWN_NAMES.index(name) for name in path]


def _find_state_dicts(content: Any) -> Iterator[StateDict]:
    """Breadth first, within bounds: a pickle of a few hundred bytes can nest more dictionaries than
    there are atoms."""
    level: list[tuple[tuple[str, ...], Any]] = [((), content)]
    count = 0
    for _ in range(MAX_DEPTH):
        following = []
        for path, value in level:
            if not isinstance(value, dict):
                continue
            count += len(value)
            if count > MAX_ENTRIES:
                raise InvalidRequest(
                    f"holds more than {MAX_ENTRIES} entries: save the weights alone, with "
                    "torch.save(model.state_dict(), FILE)"
                )
            named = {name: each for name, each in value.items() if isinstance(name, str)}
            tensors = {name: each for name, each in named.items() if isinstance(each, Tensor)}
            if tensors:
                dropped = tuple(_shorten(name) for name in value if name not in tensors)
                yield StateDict(path, tensors, dropped)
            following += [((*path, name), each) for name, each in named.items()]
        level = following
