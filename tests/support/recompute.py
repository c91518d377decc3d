"""A report's numbers recomputed from the artifacts, independently: with numpy and scipy, without
shared.ml.

For images, PSNR, HaarPSI and identification are recomputed. MSE, SSIM and metrics in the features
of a network (`feature_distance`, `lpips`) are not: their own tests compare them with slow
references. Reads the job store and the artifact folder of a `make serve`. Run by hand, it prints
both side by side:
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

from tests.support import reference_metrics

PEAK = 1.0
DIGITS_FILE = Path(__file__).parents[2] / "shared/ml/datasets/files/mnist_5k.npz"


class ArtifactReader:
    """Jobs and artifacts of a served folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sql = sqlite3.connect(f"file:{home}/palimpsest.db?mode=ro", uri=True)
        files = [path for path in (home / "artifacts").rglob("*") if path.is_file()]
        self.files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}

    def read_artifact(self, job: str, role: str) -> bytes:
        """An artifact of a job, found by the hash of its bytes and not by its name."""
        query = "SELECT sha256 FROM job_artifacts WHERE job = ? AND role = ?"
        return self.files[self.sql.execute(query, (job, role)).fetchone()[0]].read_bytes()

    def read_input(self, job: str, role: str) -> bytes:
        query = "SELECT parent, parent_role FROM job_inputs WHERE job = ? AND role = ?"
        return self.read_artifact(*self.sql.execute(query, (job, role)).fetchone())

    def find_evaluation_job(self, sha256: str) -> str:
        """The job that made the evaluation with this digest."""
        query = "SELECT job FROM job_artifacts WHERE role = 'EVALUATION' AND sha256 = ?"
        return str(self.sql.execute(query, (sha256,)).fetchone()[0])

    def has_input(self, job: str, role: str) -> bool:
        query = "SELECT count(*) FROM job_inputs WHERE job = ? AND role = ?"
        return bool(self.sql.execute(query, (job, role)).fetchone()[0])


def load_mnist(
    store: ArtifactReader, job: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Forgotten images and labels; public images and labels, told apart from the pool by the
    truth's digest only.

    The public test split is asked of the product, as it is a fixed choice; that it is disjoint is
    checked here.
    """
    from shared.ml.samples import open_dataset
    from shared.plugin_ref import PluginRef

    truth = json.loads(store.read_input(job, "FORGET_SETS"))
    with np.load(DIGITS_FILE) as arrays:
        everything = {image.tobytes() for image in arrays["images"]}
    data = open_dataset(PluginRef(name="mnist_5k"))
    train, test = data.load("train"), data.load("test")
    forgotten = train.images.numpy()[np.array(truth["indices"]).ravel()]
    public = test.images.numpy()
    assert all(
        (np.round(image * 255).astype(np.uint8)).tobytes() in everything for image in forgotten
    )
    assert not {i.tobytes() for i in public} & {i.tobytes() for i in train.images.numpy()}
    return forgotten, np.array(truth["labels"]).ravel(), public, test.labels.numpy()


def load_never_trained(store: ArtifactReader, job: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of the pool that no model was trained on, and their labels."""
    from shared.ml.samples import open_dataset
    from shared.plugin_ref import PluginRef

    train = open_dataset(PluginRef(name="mnist_5k")).load("train")
    places = np.concatenate(json.loads(store.read_input(job, "PUBLIC"))["sets"])
    return train.images.numpy()[places], train.labels.numpy()[places]


def compute_psnr(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    error = ((images.astype(np.float64) - truth) ** 2).reshape(len(truth), -1).mean(1)
    return 10 * np.log10(PEAK**2 / error)


def compute_bootstrap_t(values: np.ndarray) -> tuple[float, float]:
    n, rng = len(values), np.random.default_rng(1)
    drawn = rng.choice(values.astype(np.float64), (100_000, n))
    drawn = drawn[drawn.std(1) > 1e-9 * values.std()]
    t = (drawn.mean(1) - values.mean()) / (drawn.std(1, ddof=1) / n**0.5)
    low, high = np.quantile(t, [0.025, 0.975])
    error = values.std(ddof=1) / n**0.5
    return float(values.mean() - high * error), float(values.mean() - low * error)


def recompute_images(store: ArtifactReader, job: str) -> dict[str, Any]:
    """PSNR and HaarPSI against the class mean, and how often the truth is the nearest of its
    class."""
    from scipy.stats import binomtest, rankdata  # here: it takes half a second

    truth, labels, public, classes = load_mnist(store, job)
    reconstructed = np.clip(
        load(store.read_input(job, "RECONSTRUCTION"))["images"].reshape(truth.shape), 0, 1
    )
    means = np.stack([public[classes == label].astype(np.float64).mean(0) for label in labels])
    metrics = json.loads(store.read_artifact(job, "EVALUATION"))["metrics"]
    psnr_metric = metrics["psnr"]
    by_baseline = {
        name: np.array(values) for name, values in psnr_metric["baseline_values"].items()
    }
    assert np.allclose(by_baseline["class_mean"], compute_psnr(means, truth), atol=1e-3)
    for image, label, value in zip(truth, labels, by_baseline["nearest_public"], strict=True):
        possible = compute_psnr(
            public[classes == label], np.broadcast_to(image, public[classes == label].shape)
        )
        assert np.abs(possible - value).min() < 1e-3  # some public image of the class comes to that
    baseline = max((v for v in by_baseline.values() if len(v) == len(truth)), key=np.mean)
    scores = compute_psnr(reconstructed, truth)
    haar, haar_of_means = (
        np.array([reference_metrics.compute_haarpsi(*p) for p in zip(x, truth, strict=True)])
        for x in (reconstructed, means)
    )
    assert np.allclose(
        metrics["haarpsi"]["baseline_values"]["class_mean"], haar_of_means, atol=1e-3
    )
    ranks, chances = [], []
    unseen, unseen_classes = load_never_trained(store, job)
    for image, target, label in zip(reconstructed, truth, labels, strict=True):
        others = np.concatenate([unseen[unseen_classes == label], public[classes == label]])
        assert 100 <= len(others) < 999  # all of the class are decoys: there is no choice to repeat
        chances.append(1 / (len(others) + 1))
        distances = [((image - other) ** 2).sum(dtype=np.float64) for other in [target, *others]]
        ranks.append(int(rankdata(distances, method="max")[0]))
    first = sum(rank == 1 for rank in ranks)
    (low, high), (gain_low, gain_high) = map(compute_bootstrap_t, (scores, scores - baseline))
    wilson = binomtest(first, len(ranks)).proportion_ci(method="wilson")
    return {
        "psnr.mean": scores.mean(), "psnr.median": np.median(scores), "psnr.worst": scores.min(),
        "psnr.best": scores.max(), "psnr.baseline": baseline.mean(), "psnr.gain": (scores - baseline).mean(),
        "psnr.low": low, "psnr.high": high, "psnr.gain_low": gain_low, "psnr.gain_high": gain_high,
        "haarpsi.mean": haar.mean(), "haarpsi.median": np.median(haar), "haarpsi.worst": haar.min(),
        "haarpsi.best": haar.max(),
        "decoy_rank_1.mean": first / len(ranks), "decoy_rank_1.low": wilson.low, "decoy_rank_1.high": wilson.high,
        "decoy_rank_1.baseline": float(np.mean(chances)),
    }  # fmt: skip


def recompute_labels(store: ArtifactReader, job: str) -> dict[str, Any]:
    """Share of classes told (one sample a deletion), beside the answers shuffled over the
    deletions."""
    from scipy.stats import binomtest

    truth = np.array(json.loads(store.read_input(job, "FORGET_SETS"))["labels"]).ravel()
    answers = np.array(json.loads(store.read_input(job, "ANSWERS"))["labels"]).ravel()
    hits = int((answers == truth).sum())
    shuffled = [(answers == np.roll(truth, shift)).mean() for shift in range(1, len(truth))]
    wilson = binomtest(hits, len(truth)).proportion_ci(method="wilson")
    return {
        "label_accuracy.mean": hits / len(truth), "label_accuracy.low": wilson.low, "label_accuracy.high": wilson.high,
        "label_accuracy.baseline": max(float(np.mean(shuffled)), 0.1),
    }  # fmt: skip


def recompute_report(home: Path) -> list[tuple[str, str, float, float]]:
    """(row, figure, as the report prints it, as made again) for everything that is made again
    here."""
    store = ArtifactReader(home)
    rows = []
    for row in json.loads((home / "demo" / "report.json").read_text())["rows"]:
        job = store.find_evaluation_job(row["evaluation"])
        name = " ".join(row[part]["method"] for part in ("unlearning", "defense", "attack"))
        again = (
            recompute_images(store, job)
            if store.has_input(job, "RECONSTRUCTION")
            else recompute_labels(store, job)
        )
        for figure, value in again.items():
            metric, field = figure.split(".")
            rows.append((name, figure, float(row["metrics"][metric][field]), float(value)))
    return rows


if __name__ == "__main__":
    for row, figure, printed, again in recompute_report(Path(sys.argv[1])):
        print(f"{row:<60} {figure:<22} {printed:>10.4f} {again:>10.4f}")  # noqa: T201 - a table for whoever runs it
