"""Where the drawings of the document go, and how it links to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from benchmarks.paper import figures
from benchmarks.paper.figures import Series


@dataclass(frozen=True)
class Gallery:
    """`link` leads from the document to `folder`."""

    folder: Path
    link: str

    def shares(self, name: str, title: str, series: Sequence[Series], chance: float | None = None) -> str:
        """A chart of shares between 0 and 1; what is left of the series is drawn, or said to be nothing."""
        marked = [one for one in series if one.marks]
        if not marked:
            return f"No results to draw: {title}."
        (self.folder / f"{name}.svg").write_text(figures.chart(title, title, marked, null=chance, share=True))
        return f"![{title}]({self.link}/{name}.svg)"

    def strip(self, name: str, rows: Sequence[Tensor]) -> str:
        """Rows of images [n, C, H, W]."""
        figures.strip(rows, str(self.folder / f"{name}.png"))
        return f"![{name}]({self.link}/{name}.png)"
