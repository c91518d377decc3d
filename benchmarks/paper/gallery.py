"""The folder of the document's figures, and the links to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from benchmarks.paper import figures
from benchmarks.paper.figures import Series


@dataclass(frozen=True)
class Gallery:
    """`link` is the path from the document to `folder`."""

    folder: Path
    link: str

    def draw_shares(
        self, name: str, title: str, series: Sequence[Series], chance: float | None = None
    ) -> str:
        """A chart of shares between 0 and 1, without empty series; a sentence if all are empty."""
        nonempty = [one for one in series if one.points]
        if not nonempty:
            return f"No results to draw: {title}."
        (self.folder / f"{name}.svg").write_text(
            figures.draw_chart(title, title, nonempty, baseline=chance, share=True)
        )
        return f"![{title}]({self.link}/{name}.svg)"

    def draw_images(self, name: str, rows: Sequence[Tensor]) -> str:
        """Rows of images [n, C, H, W]."""
        figures.save_image_grid(rows, str(self.folder / f"{name}.png"))
        return f"![{name}]({self.link}/{name}.png)"
