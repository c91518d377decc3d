"""Images of a gallery as PNG, for the page of a report."""

from __future__ import annotations

import io

from torch import Tensor

from shared.ml.scored_kind import Triples, UnscoredPictures
from shared.reporting.pictures import Gallery, Picture, UnscoredGallery, UnscoredPicture
from workers.pictures import draw_sample
from workers.stages._pictures import Shown

# minimum side in pixels: smaller images are enlarged by whole factors, so pixels stay squares
SIDE = 112


def draw_gallery(shown: Shown) -> Gallery | UnscoredGallery:
    """The pictures of one evaluation."""
    of = shown.pictures
    table = of.reconstruction.shape[2:] == (1, 1)
    row = shown.seed, shown.unlearning, shown.defense, shown.attack
    if isinstance(of, UnscoredPictures):
        return UnscoredGallery(*row, _draw_unscored(of), table)
    return Gallery(*row, _draw_triples(of), table)


def _draw_triples(of: Triples) -> list[Picture]:
    truth, reconstruction, baseline = (
        [_png(image) for image in images] for images in (of.truth, of.reconstruction, of.baseline)
    )
    return [
        Picture(
            truth=truth[i],
            reconstruction=reconstruction[i],
            baseline=baseline[i] if baseline else None,
            psnr=of.psnr[i],
            baseline_psnr=of.baseline_psnr[i] if of.baseline_psnr else None,
            rank=of.ranks[i] if of.ranks else None,
            decoys=of.decoy_counts[i] if of.decoy_counts else 0,
            class_name=of.names.get(str(of.labels[i]), str(of.labels[i])) if of.labels else None,
        )
        for i in range(len(truth))
    ]


def _draw_unscored(of: UnscoredPictures) -> list[UnscoredPicture]:
    reconstruction, control, public = (
        [_png(image) for image in images] for images in (of.reconstruction, of.control, of.public)
    )
    return [
        UnscoredPicture(
            reconstruction=image,
            loss=of.losses[i],
            control=control[i] if i < len(control) else None,
            control_loss=of.control_losses[i] if i < len(control) else None,
            public=public[i] if public else None,
            class_name=of.names.get(str(of.labels[i]), str(of.labels[i])),
        )
        for i, image in enumerate(reconstruction)
    ]


def _png(image: Tensor) -> bytes:
    """One image [C, H, W] in [0, 1], grey or RGB, or a row of a table [F, 1, 1]."""
    written = io.BytesIO()
    draw_sample(image, SIDE).save(written, "PNG", optimize=True)
    return written.getvalue()
