"""Looking at training samples as the model receives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import Draws, require
from rsfoundation.engine.config_errors import unknown_type_error
from rsfoundation.engine.runner import build_task, classes_of
from rsfoundation.io.images import write_rgb


def browse(cfg: Config, split: str, count: int, out: Path, start: int = 0) -> list[Path]:
    """Draw samples of a data set after its whole pipeline, labels over them.

    Args:
        cfg: The config.
        split: ``train``, ``val`` or ``test``.
        count: How many samples.
        out: Folder for the pictures.
        start: Index of the first sample.

    Returns:
        The files written.

    Raises:
        RSFError: The config has no such data set, or the data is at fault.
    """
    loader = cfg.get(f"{split}_dataloader")
    if loader is None:
        raise ConfigError(f"the config has no {split}_dataloader", where=cfg.filename)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    task = require(build_task(cfg), Draws, "rsf browse")
    try:
        dataset = DATASETS.build(loader.dataset)
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error
    classes = classes_of(dataset.metainfo)
    files = []
    for index in range(start, min(start + count, len(dataset))):
        item = dataset[index]
        sample = item["data_samples"]
        stem = Path(task.image_paths(sample)[0]).stem
        file = out / f"{index:05d}_{stem}.png"
        write_rgb(file, task.draw_truth(input_images(item["inputs"]), sample, classes))
        files.append(file)
    return files


def input_images(inputs: Any) -> list[np.ndarray]:
    """Turn packed inputs into RGB pictures, one per date.

    Args:
        inputs: A tensor ``(3 * dates, H, W)``, BGR, on the 0..255 scale.
    """
    planes = np.clip(inputs.numpy(), 0, 255).astype(np.uint8)
    groups = [planes[i : i + 3] for i in range(0, len(planes), 3)]
    return [
        cv2.cvtColor(np.ascontiguousarray(group.transpose(1, 2, 0)), cv2.COLOR_BGR2RGB) for group in groups
    ]
