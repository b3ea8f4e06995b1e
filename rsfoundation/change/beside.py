"""Ground truth that lies beside a pair in the layout of change detection data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from rsfoundation.change.loading import CHANGED_FROM


def find_label(first_date: Path) -> SegDataSample | None:
    """Read ``<split>/label/<name>`` beside ``<split>/A/<name>``, as LEVIR-CD lays it out.

    Returns:
        A sample with ``gt_sem_seg`` of 0 and 1; ``None`` where there is no label.
    """
    label = first_date.parent.parent / "label" / first_date.name
    if first_date.parent.name != "A" or not label.is_file():
        return None
    changed = np.asarray(Image.open(label).convert("L")) >= CHANGED_FROM
    return SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(changed.astype(np.int64))[None]))
