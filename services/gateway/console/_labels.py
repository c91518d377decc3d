"""Labels in forms: a filter by one, and rows of keys and values to edit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from shared.errors import InvalidRequest
from shared.jobs.filters import Label
from shared.jobs.labels import KEY_FORMAT, MAX_LABELS, VALUE_FORMAT

_KEY, _VALUE = re.compile(KEY_FORMAT), re.compile(VALUE_FORMAT)
BLANK_ROWS = 2  # to add labels in


def read_label_filter(text: str) -> Label | None:
    """The label of `KEY` or `KEY=VALUE`; None of an empty text.

    Raises:
        InvalidRequest: it is neither.
    """
    if not text:
        return None
    key, sign, value = text.partition("=")
    if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
        raise InvalidRequest("Write a label as KEY or KEY=VALUE.", "label")
    return key, value if sign else None


def join_labels(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """The rows of the form: the labels, and room for more."""
    return [*labels.items(), *[("", "")] * BLANK_ROWS]


def read_label_changes(
    keys: Sequence[str], values: Sequence[str], labels: Mapping[str, str]
) -> dict[str, str | None]:
    """What turns labels into those of a form. Rows without a key are left out.

    Raises:
        InvalidRequest: a key or a value may not be, or there are too many.
    """
    rows = [(key.strip(), value.strip()) for key, value in zip(keys, values, strict=False)]
    wanted = {key: value for key, value in rows if key}
    if len(wanted) > MAX_LABELS:
        raise InvalidRequest(f"There may be at most {MAX_LABELS} labels.", "labels")
    for key, value in rows:
        if value and not key:
            raise InvalidRequest("Each value needs a key.", "labels")
    for key, value in wanted.items():
        if not _KEY.fullmatch(key):
            raise InvalidRequest(
                "A key has letters, digits and . _ / - only, begins with a letter or a digit, and has "
                "at most 64 characters.",
                "labels",
            )
        if not _VALUE.fullmatch(value):
            raise InvalidRequest(
                "A value has at most 256 characters and no control characters.", "labels"
            )
    return dict.fromkeys(labels) | wanted
