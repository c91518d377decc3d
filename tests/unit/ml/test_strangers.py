"""Two hundred data sets of strangers: each is read as it is meant, or refused with where and what
to do."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import InvalidRequest
from shared.ml.samples import class_names, open_dataset
from shared.plugin_ref import PluginRef
from tests.support.strangers import Stranger, settle

# what to do: a verb of the imperative mood, or how to write it
DO = re.compile(
    r"\b(give|write|correct|name|put|remove|rename|divide|fill|keep|say|number|leave|multiply|scale|undo|"
    r"composite|set|use|replace|encode|group|list|save|convert|make|add|must be|must hold|"
    r"must have)\b|argmax|astype|\(x \+ 1\)|once each|twice\?"
)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Stranger]]:
    folder = tmp_path_factory.mktemp("street")
    return folder, settle(folder)


def read(stranger: Stranger) -> tuple[tuple[str, ...], list[tuple[str, np.ndarray]]]:
    """The classes in order, and all samples in order of class and values."""
    dataset: Any = open_dataset(PluginRef(name=stranger.name, params=stranger.params))
    names, rows = class_names(dataset), []
    for split in ("train", "test"):
        images, labels = dataset.load(split)
        rows += [
            (names[label], image.flatten().double().numpy())
            for image, label in zip(images, labels.tolist(), strict=True)
        ]
    return names, in_order(rows)


def in_order(rows: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    return sorted(
        rows,
        key=lambda row: (row[0], [round(float(value), 2) for value in row[1]], row[1].tolist()),
    )


@pytest.mark.slow
def test_good_ones_are_read_as_their_owners_mean_them(
    street: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, strangers = street
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(folder))
    good = [one for one in strangers if one.rows]
    assert Counter(one.name for one in good) == {"npz": 33, "csv": 34, "image_folder": 33}
    for stranger in good:
        names, rows = read(stranger)
        assert names == stranger.order, stranger.what
        meant = in_order([(label, np.array(values)) for label, values in stranger.rows])
        assert [label for label, _ in rows] == [label for label, _ in meant], stranger.what
        got, want = (np.stack([values for _, values in some]) for some in (rows, meant))
        assert got.shape == want.shape, stranger.what
        assert _same(got, want, [label for label, _ in rows], stranger.tolerance), stranger.what


def _same(got: np.ndarray, want: np.ndarray, labels: list[str], tolerance: float) -> bool:
    """Whether the samples of each class are the same, in whatever order those stand that rounding
    makes equal."""
    for label in {*labels}:
        rows = [i for i, other in enumerate(labels) if other == label]
        left = list(rows)
        for i in rows:
            fits = [j for j in left if np.abs(got[i] - want[j]).max() <= tolerance + 1e-6]
            if not fits:
                return False
            left.remove(fits[0])
    return True


def test_wrong_ones_are_refused_with_file_place_and_what_to_do(
    street: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, strangers = street
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(folder))
    wrong = [one for one in strangers if not one.rows]
    assert len(wrong) == 100
    silent, unclear = [], []
    for stranger in wrong:
        try:
            read(stranger)
            silent.append(stranger.what)
        except InvalidRequest as refused:
            said = refused.message
            lacks = [place for place in stranger.place if place not in said]
            tells = [secret for secret in stranger.secret if secret in said]
            if lacks or tells or not DO.search(said) or str(folder) in said or len(said) > 600:
                unclear.append((stranger.what, said, lacks, tells))
    assert (silent, unclear) == ([], [])
