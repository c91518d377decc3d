"""The numbers of a report made again from the artifacts, by another road: numpy and scipy, nothing of shared.ml.

Of images PSNR, HaarPSI and identification are made again. MSE and SSIM are not, nor are metrics in the features of a
network (`feature_distance`, `lpips`): their own tests hold them against slow references.
Reads the job store and the artifact folder that a serve has left. Run by hand it prints both side by side:
    python -m tests.support.recompute .palimpsest
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load
from scipy.stats import binomtest, bootstrap, rankdata

from tests.support import references

PEAK = 1.0
DIGITS = Path(__file__).parents[2] / "shared/ml/datasets/files/mnist_5k.npz"


class Store:
    """Jobs and artifacts of a served folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sql = sqlite3.connect(f"file:{home}/palimpsest.db?mode=ro", uri=True)
        files = [path for path in (home / "artifacts").rglob("*") if path.is_file()]
        self.files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}

    def bytes_of(self, job: str, role: str) -> bytes:
        """An artifact of a job, found by the hash of its bytes and not by its name."""
        query = "SELECT sha256 FROM job_artifacts WHERE job = ? AND role = ?"
        return self.files[self.sql.execute(query, (job, role)).fetchone()[0]].read_bytes()

    def input_of(self, job: str, role: str) -> bytes:
        query = "SELECT parent, parent_role FROM job_inputs WHERE job = ? AND role = ?"
        return self.bytes_of(*self.sql.execute(query, (job, role)).fetchone())

    def evaluation(self, sha256: str) -> str:
        """The job that made the evaluation with this digest."""
        query = "SELECT job FROM job_artifacts WHERE role = 'EVALUATION' AND sha256 = ?"
        return str(self.sql.execute(query, (sha256,)).fetchone()[0])

    def has_input(self, job: str, role: str) -> bool:
        query = "SELECT count(*) FROM job_inputs WHERE job = ? AND role = ?"
        return bool(self.sql.execute(query, (job, role)).fetchone()[0])


def mnist(store: Store, job: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Forgotten images and labels; public images and labels, told apart from the pool by the truth's digest only.

    The public test split is asked of the product, as it is a fixed choice; that it is disjoint is checked here.
    """
    from shared.choices import Choice
    from shared.ml.samples import open_dataset

    truth = json.loads(store.input_of(job, "FORGET_SETS"))
    with np.load(DIGITS) as arrays:
        everything = {image.tobytes() for image in arrays["images"]}
    data = open_dataset(Choice(name="mnist_5k"))
    train, test = data.load("train"), data.load("test")
    forgotten = train.images.numpy()[np.array(truth["indices"]).ravel()]
    public = test.images.numpy()
    assert all((np.round(image * 255).astype(np.uint8)).tobytes() in everything for image in forgotten)
    assert not {i.tobytes() for i in public} & {i.tobytes() for i in train.images.numpy()}
    return forgotten, np.array(truth["labels"]).ravel(), public, test.labels.numpy()


def psnr(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    error = ((images.astype(np.float64) - truth) ** 2).reshape(len(truth), -1).mean(1)
    return 10 * np.log10(PEAK**2 / error)


def bca(values: np.ndarray) -> tuple[float, float]:
    found = bootstrap((values,), np.mean, method="BCa", n_resamples=9999, rng=np.random.default_rng(1))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def images_row(store: Store, job: str) -> dict[str, Any]:
    """PSNR and HaarPSI against the class mean, and how often the truth is the nearest of its class."""
    truth, labels, public, classes = mnist(store, job)
    found = np.clip(load(store.input_of(job, "RECONSTRUCTION"))["images"].reshape(truth.shape), 0, 1)
    means = np.stack([public[classes == label].astype(np.float64).mean(0) for label in labels])
    metrics = json.loads(store.bytes_of(job, "EVALUATION"))["metrics"]
    told = metrics["psnr"]
    by_null = {name: np.array(values) for name, values in told["null_values"].items()}
    assert np.allclose(by_null["class_mean"], psnr(means, truth), atol=1e-3)
    for image, label, value in zip(truth, labels, by_null["nearest_public"], strict=True):
        possible = psnr(public[classes == label], np.broadcast_to(image, public[classes == label].shape))
        assert np.abs(possible - value).min() < 1e-3  # some public image of the class comes to that
    null = max((v for v in by_null.values() if len(v) == len(truth)), key=np.mean)
    scores = psnr(found, truth)
    haar, haar_of_means = (
        np.array([references.haarpsi(*p) for p in zip(x, truth, strict=True)]) for x in (found, means)
    )
    assert np.allclose(metrics["haarpsi"]["null_values"]["class_mean"], haar_of_means, atol=1e-3)
    ranks = []
    for image, target, label in zip(found, truth, labels, strict=True):
        others = public[classes == label]
        assert len(others) == 100  # every public image of the class is a decoy: no choice to repeat
        distances = [((image - other) ** 2).sum(dtype=np.float64) for other in [target, *others]]
        ranks.append(int(rankdata(distances, method="max")[0]))
    first = sum(rank == 1 for rank in ranks)
    wilson = binomtest(first, len(ranks)).proportion_ci(method="wilson")
    return {
        "psnr.mean": scores.mean(), "psnr.median": np.median(scores), "psnr.worst": scores.min(),
        "psnr.best": scores.max(), "psnr.null": null.mean(), "psnr.gain": (scores - null).mean(),
        "psnr.low": bca(scores)[0], "psnr.high": bca(scores)[1],
        "psnr.gain_low": bca(scores - null)[0], "psnr.gain_high": bca(scores - null)[1],
        "haarpsi.mean": haar.mean(), "haarpsi.median": np.median(haar), "haarpsi.worst": haar.min(),
        "haarpsi.best": haar.max(),
        "decoy_rank_1.mean": first / len(ranks), "decoy_rank_1.low": wilson.low, "decoy_rank_1.high": wilson.high,
        "decoy_rank_1.null": 1 / 101,
    }  # fmt: skip


def labels_row(store: Store, job: str) -> dict[str, Any]:
    """Share of classes told (one sample a deletion), beside the answers shuffled over the deletions."""
    truth = np.array(json.loads(store.input_of(job, "FORGET_SETS"))["labels"]).ravel()
    answers = np.array(json.loads(store.input_of(job, "ANSWERS"))["labels"]).ravel()
    told = int((answers == truth).sum())
    others = [(answers == np.roll(truth, shift)).mean() for shift in range(1, len(truth))]
    wilson = binomtest(told, len(truth)).proportion_ci(method="wilson")
    return {
        "label_accuracy.mean": told / len(truth), "label_accuracy.low": wilson.low, "label_accuracy.high": wilson.high,
        "label_accuracy.null": max(float(np.mean(others)), 0.1),
    }  # fmt: skip


def recomputed(home: Path) -> list[tuple[str, str, float, float]]:
    """(row, figure, as the report prints it, as made again) for everything that is made again here."""
    store = Store(home)
    found = []
    for row in json.loads((home / "demo" / "report.json").read_text())["rows"]:
        job = store.evaluation(row["evaluation"])
        name = " ".join(row[part]["method"] for part in ("unlearning", "defense", "attack"))
        again = images_row(store, job) if store.has_input(job, "RECONSTRUCTION") else labels_row(store, job)
        for figure, value in again.items():
            metric, field = figure.split(".")
            found.append((name, figure, float(row["metrics"][metric][field]), float(value)))
    return found


if __name__ == "__main__":
    for row, figure, printed, again in recomputed(Path(sys.argv[1])):
        print(f"{row:<60} {figure:<22} {printed:>10.4f} {again:>10.4f}")  # noqa: T201 - a table for whoever runs it
