"""A bundled financial table: no download."""

from __future__ import annotations

from functools import cache

from shared.ml.datasets import registry
from shared.ml.datasets._files import read_bundled
from shared.ml.datasets._tables import EncodedTable, TableDataset, encode_table, parse_csv
from shared.plugins import Params

SHA256 = "2c0bae00275c028fc853a1ea72cc7a68002c3f6876c41300c5c948711540c8c6"


class GermanCreditParams(Params):
    pass


@registry.register(
    "german_credit",
    params=GermanCreditParams,
    source="Hofmann 1994 (Statlog, German credit data)",
    input_shape=(61, 1, 1),
    num_classes=2,
)
class GermanCredit(TableDataset):
    """1,000 credit applicants with 20 attributes, bad (0) or good (1) risks: 800 to train, 200 to
    test."""

    def __init__(self, params: GermanCreditParams) -> None:
        super().__init__("german_credit", _load_table)
        self.params = params


@cache
def _load_table() -> EncodedTable:
    field = "params.dataset"
    raw = read_bundled("german_credit.csv.gz", SHA256)
    return encode_table(parse_csv(raw, "german_credit.csv", field), "creditability", field)
