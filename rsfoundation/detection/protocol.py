"""What a user may ask of a detection test, written into its config."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger

from rsfoundation.detection.tta import use_tta
from rsfoundation.errors import ConfigError
from rsfoundation.task import TestRequest


def prepare_test(cfg: Config, request: TestRequest, merge_iou: float) -> None:
    """Change the config of a detection test.

    Raises:
        ConfigError: Options that do not go together.
    """
    evaluator = cfg.test_evaluator
    if request.format_only:
        out = request.out or Path(cfg.work_dir) / "submission"
        cfg.test_evaluator = dict(
            type="rsfoundation.DetectionSubmission",
            out=str(out),
            images=str(request.images) if request.images else None,
            merge_iou=merge_iou,
        )
    elif request.out or request.images:
        option = "--out" if request.out else "--images"
        raise ConfigError(f"{option} belongs to a submission", where=option, cure="add --format-only")
    else:
        for one in evaluator if isinstance(evaluator, list) else [evaluator]:
            if one.get("matching") == "devkit":
                _keep_difficulty(cfg)
            if one.get("matching") == "devkit" or one.get("full_images") or one.get("full_image_labels"):
                _keep_corners(cfg)
    if request.tta:
        use_tta(cfg, merge_iou)


def _keep_corners(cfg: Config) -> None:
    """Let labels reach the metric as they stand in their files, not as fitted rectangles."""
    dataset: Any = cfg.test_dataloader.dataset
    dataset.pipeline = [step for step in dataset.pipeline if not str(step["type"]).endswith("ConvertBoxType")]


def _keep_difficulty(cfg: Config) -> None:
    """Leave difficult objects out of the count, as DOTA's devkit does, unless the config says otherwise."""
    dataset: Any = cfg.test_dataloader.dataset
    if dataset.get("ignore_difficulty") is None:
        dataset.ignore_difficulty = 1
        MMLogger.get_current_instance().info(
            "devkit rules: difficult objects do not count (ignore_difficulty=1)"
        )
