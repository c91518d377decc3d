"""Lists of the models of torchvision and timm, as workers publish them: `python -m
tests.support.library_names` writes them anew for the installed versions."""

from __future__ import annotations

from shared.ml.models import timm, torchvision
from shared.ml.models._library import NAMES_FOLDER


def build_lists() -> dict[str, str]:
    """By library, the text of its list."""
    listed = {"timm": timm.list_names(), "torchvision": torchvision.list_names()}
    return {library: "".join(f"{name}\n" for name in names) for library, names in listed.items()}


if __name__ == "__main__":
    for library, text in build_lists().items():
        (NAMES_FOLDER / f"{library}.txt").write_text(text)
