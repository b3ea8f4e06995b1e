"""``rsf browse``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsfoundation.cli.console import say
from rsfoundation.cli.options import ConfigArgument, Overrides
from rsfoundation.core.choices import Split

if TYPE_CHECKING:
    import numpy as np
    from mmengine.config import Config


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("browse")(browse)


def browse(
    config: ConfigArgument,
    split: Annotated[Split, typer.Option("--split", help="Which data set.")] = "train",
    count: Annotated[int, typer.Option("--count", "-n", help="How many samples.", min=1)] = 16,
    start: Annotated[int, typer.Option("--start", help="Index of the first sample.", min=0)] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("browse"),
    cfg_options: Overrides = None,
) -> None:
    """Draw samples as the model receives them: after augmentation, with their labels.

    Example: rsf browse quickstart/detection_toy_lsknet_t -n 8 -o browse
    """
    from rsfoundation.engine.config import load_config

    files = draw_samples(load_config(config, cfg_options or ()), split, count, out, start)
    say(f"{len(files)} pictures: {out}")


def draw_samples(cfg: Config, split: Split, count: int, out: Path, start: int = 0) -> list[Path]:
    """Draw samples of a data set after its whole pipeline, with their labels.

    Args:
        cfg: The config.
        split: The data set.
        count: Number of samples.
        out: Folder for the pictures.
        start: Index of the first sample.

    Returns:
        The files written.

    Raises:
        RSFError: The config has no such data set, or the data is broken.
    """
    from mmengine.registry import DATASETS, init_default_scope

    from rsfoundation.core.errors import ConfigError
    from rsfoundation.core.task import Draws, require
    from rsfoundation.engine.config import build_task, classes_of, unknown_type_error
    from rsfoundation.engine.resolve_config import use_image_loading
    from rsfoundation.io.images import write_rgb

    loader = cfg.get(f"{split}_dataloader")
    if loader is None:
        raise ConfigError(f"the config has no {split}_dataloader", where=cfg.filename)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    use_image_loading(cfg)
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
        images = _rgb_images(item["inputs"], len(task.image_paths(sample)))
        write_rgb(file, task.draw_truth(images, sample, classes))
        files.append(file)
    return files


def _rgb_images(inputs: Any, dates: int) -> list[np.ndarray]:
    """Turn packed inputs, a tensor ``(bands * dates, H, W)``, into one RGB image per date.

    Three bands start with blue; of others the first three are shown, or the first. Values beyond 0..255 are
    stretched.
    """
    import numpy as np

    planes = inputs.float().numpy()
    low, high = planes.min(), planes.max()
    if low < 0 or high > 255 or (inputs.is_floating_point() and high <= 1):
        planes = (planes - low) * (255 / max(high - low, 1e-9))
    images = []
    for bands in np.split(planes.astype(np.uint8), dates):
        shown = bands[:3] if len(bands) > 3 else bands[::-1]
        shown = shown if len(shown) >= 3 else np.repeat(bands[:1], 3, axis=0)
        images.append(np.ascontiguousarray(shown.transpose(1, 2, 0)))
    return images
