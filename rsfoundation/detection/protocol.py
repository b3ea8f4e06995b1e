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
    if request.format_only:
        out = request.out or Path(cfg.work_dir) / "submission"
        cfg.test_evaluator = dict(
            type="rsfoundation.DetectionSubmission",
            out=str(out),
            images=str(request.images) if request.images else None,
            merge_iou=merge_iou,
        )
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="rsfoundation.SubmissionCheckHook")]
        _test_on_the_submitted_split(cfg)
    elif request.out or request.images:
        option = "--out" if request.out else "--images"
        raise ConfigError(f"{option} belongs to a submission", where=option, cure="add --format-only")
    else:
        give_labels_as_measured(cfg, "test")
    if request.tta:
        use_tta(cfg, merge_iou)


def give_labels_as_measured(cfg: Config, stage: str) -> None:
    """Let the data set of ``stage`` (``val``, ``test``) hand out the labels that its evaluators count."""
    evaluators = cfg.get(f"{stage}_evaluator") or []
    for one in evaluators if isinstance(evaluators, list) else [evaluators]:
        dataset: Any = cfg[f"{stage}_dataloader"].dataset
        if one.get("matching") == "devkit":
            _keep_devkit_objects(dataset)
        if one.get("matching") == "devkit" or one.get("full_images") or one.get("full_image_labels"):
            _keep_corners(dataset)


def _test_on_the_submitted_split(cfg: Config) -> None:
    """Replace the labelled split, which figures come from, by the one that the server has the labels of."""
    wanted = cfg.get("submission")
    if wanted:
        cfg.test_dataloader.dataset.update(wanted)
        told = ", ".join(f"{name}={value}" for name, value in wanted.items())
        MMLogger.get_current_instance().info("submission: the data set is tested with %s", told)


def _keep_corners(dataset: Any) -> None:
    """Let labels reach the metric as they stand in their files, not as fitted rectangles."""
    dataset.pipeline = [step for step in dataset.pipeline if not str(step["type"]).endswith("ConvertBoxType")]


def _keep_devkit_objects(dataset: Any) -> None:
    """Count all but difficult objects, as DOTA's devkit does, unless the config says otherwise."""
    for name, value in {"ignore_difficulty": 1, "min_side": 0.0}.items():
        if dataset.get(name) is None:
            dataset[name] = value
            MMLogger.get_current_instance().info("devkit rules: %s=%g in the data set", name, value)
