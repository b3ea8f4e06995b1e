"""How near the maps of a student come to those of its teacher on held-out images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch.nn import functional as F

from rsfoundation.core.errors import DataError
from rsfoundation.registry import METRICS

_CHANNELS = 8  # channels of all images that are in memory at once


@METRICS.register_module()
class DistillationMetric(BaseMetric):
    """Relative error against the best constant map, cosine, R² per channel, IoU of prompted masks.

    ``relative_error`` is the mean absolute error of the student divided by that of the best map that is the
    same for every image: the median over these very images, for each cell and channel. ``cosine`` is the mean
    over cells. ``r2`` is the mean over channels of one minus the squared error over the variance about the
    channel's mean; ``r2_p10`` and ``r2_p90`` are its quantiles. ``box_iou`` is there with prompts.

    The teacher's maps wait in temporary files, not in memory.

    Args:
        images: The constant map is that of so many images at most.
        **kwargs: As for mmengine's ``BaseMetric``.
    """

    default_prefix = None

    def __init__(self, images: int = 256, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.images = images
        self.evaluation: dict[str, Any] | None = None
        self._folder: Path | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compare both maps of each sample.

        Args:
            data_batch: Not used.
            data_samples: With ``teacher_map`` and ``student_map`` ``(C, h, w)``.
        """
        for sample in data_samples:
            wanted, found = (sample[name].detach().float().cpu() for name in ("teacher_map", "student_map"))
            difference = (found - wanted).double()
            cosine = F.cosine_similarity(wanted, found, dim=0).mean()
            self.results.append(
                dict(
                    file=self._store(wanted.numpy()) if len(self.results) < self.images else None,
                    image=sample.get("img_path", ""),
                    shape=tuple(wanted.shape),
                    error=float(difference.abs().mean()),
                    cosine=float(cosine),
                    squares=difference.square().sum((1, 2)).numpy(),
                    sums=wanted.double().sum((1, 2)).numpy(),
                    sums_of_squares=wanted.double().square().sum((1, 2)).numpy(),
                    prompt_iou=float(sample["prompt_iou"]) if "prompt_iou" in sample else None,
                )
            )

    def _store(self, maps: np.ndarray) -> str:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rsf-teacher-maps-"))
        file = self._folder / f"{len(self.results):06d}.npy"
        np.save(file, maps)
        return str(file)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Evaluate all images.

        Args:
            results: Of :meth:`process`, of all ranks.

        Raises:
            DataError: The maps differ in size.
        """
        files = [Path(one["file"]) for one in results if one["file"]]
        try:
            odd = next((one for one in results if one["shape"] != results[0]["shape"]), None)
            if odd is not None:
                raise DataError(
                    "the maps of the held-out images differ in size: "
                    f"{results[0]['shape']} and {odd['shape']}",
                    where=odd["image"],
                    fix="crop them to one size in val_pipeline",
                )
            constant, within = error_of_constant_map(files)
        finally:
            for file in files:
                file.unlink(missing_ok=True)
            for folder in {file.parent for file in files}:
                folder.rmdir()
            self._folder = None
        _, rows, columns = results[0]["shape"]
        cells = rows * columns * len(results)
        sums = {name: np.sum([one[name] for one in results], 0) for name in _SUMS}
        spread = sums["sums_of_squares"] - sums["sums"] ** 2 / cells
        r2 = 1 - sums["squares"] / np.maximum(spread, 1e-12)
        error = float(np.mean([one["error"] for one in results]))
        metrics = dict(
            relative_error=error / max(constant, 1e-12),
            l1=error,
            l1_constant=constant,
            cosine=float(np.mean([one["cosine"] for one in results])),
            r2=float(r2.mean()),
            r2_p10=float(np.quantile(r2, 0.1)),
            r2_p90=float(np.quantile(r2, 0.9)),
        )
        overlaps = [one["prompt_iou"] for one in results if one["prompt_iou"] is not None]
        if overlaps:
            metrics["box_iou"] = float(np.mean(overlaps))
        self.evaluation = dict(
            metrics=metrics, images=len(results), constant_map_of=within, r2_per_channel=r2.tolist()
        )
        return metrics


_SUMS = ("squares", "sums", "sums_of_squares")


def error_of_constant_map(files: Sequence[Path]) -> tuple[float, int]:
    """Return the mean absolute error of the best map that is the same for all images, and their number.

    Args:
        files: ``.npy`` files of maps ``(C, h, w)`` of one size.
    """
    maps = [np.load(file, mmap_mode="r") for file in files]
    channels = maps[0].shape[0]
    total = 0.0
    for start in range(0, channels, _CHANNELS):
        part = torch.from_numpy(np.stack([one[start : start + _CHANNELS] for one in maps]))
        total += float((part - part.median(0).values).abs().double().sum())
    return total / (len(maps) * maps[0].size), len(maps)
