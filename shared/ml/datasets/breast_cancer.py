"""A bundled medical table: no download."""

from __future__ import annotations

import csv
import io
from functools import cache

from shared.ml.datasets import registry
from shared.ml.datasets._files import read_bundled
from shared.ml.datasets._tables import EncodedTable, Table, TableDataset, encode_table
from shared.plugins import Params

SHA256 = "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"
STATISTICS = ("mean", "standard error", "worst")
MEASURES = (
    "radius", (
        "texture"
    ), "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip


class BreastCancerParams(Params):
    pass


@registry.register(
    "breast_cancer",
    params=BreastCancerParams,
    source="Street, Wolberg and Mangasarian 1993 (Wisconsin, diagnostic)",
    input_shape=(30, 1, 1),
    num_classes=2,
)
class BreastCancer(TableDataset):
    """569 breast tumours with 30 measurements of their cells, malignant (0) or benign (1): 456 to
    train, 113 to test."""

    def __init__(self, params: BreastCancerParams) -> None:
        super().__init__("breast_cancer", _load_table)
        self.params = params


@cache
def _load_table() -> EncodedTable:
    """Read the file: a line with the sizes and the classes, then 30 numbers and the class per
    line."""
    names = [f"{kind} {measure}" for kind in STATISTICS for measure in MEASURES]
    raw = read_bundled("breast_cancer.csv.gz", SHA256)
    with io.TextIOWrapper(raw, encoding="ascii", newline="") as file:
        _, *rows = csv.reader(file)
    columns = {name: [row[place] for row in rows] for place, name in enumerate([*names, "class"])}
    return encode_table(Table(columns, range(2, len(rows) + 2)), "class", "params.dataset")
