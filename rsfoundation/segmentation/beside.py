"""Ground truth that lies beside an image in the layout of segmentation data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from rsfoundation.segmentation.colour_masks import decode_colours
from rsfoundation.task import Classes


def find_mask(image: Path, classes: Classes) -> SegDataSample | None:
    """Read ``label_dir/<split>/<name>.png`` beside ``img_dir/<split>/<name>``, colour-coded by the classes.

    Returns:
        A sample with ``gt_sem_seg``, colours of no class ignored; ``None`` where there is no mask.
    """
    if image.parent.parent.name != "img_dir":
        return None
    mask = image.parents[2] / "label_dir" / image.parent.name / f"{image.stem}.png"
    if not mask.is_file():
        return None
    labels = decode_colours(np.asarray(Image.open(mask).convert("RGB")), classes.palette)
    return SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(labels.astype(np.int64))[None]))
