"""Converting checkpoints to those of a config's model: mmrotate 0.x detectors, and LoRA adapters merged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.core.task import RunRequest
from rsfoundation.engine.checkpointing.find import config_of_checkpoint, find_checkpoint, read_saved
from rsfoundation.engine.config import build_task, load_config
from rsfoundation.engine.model_builder import inference_model
from rsfoundation.engine.resolve_config import RunOptions, drop_sync_bn, resolve_config
from rsfoundation.io.checkpoints import published, read_checkpoint, write_safetensors

_AVERAGED = "ema_"  # buffers of 0.x's averaging hook: the weights not in use when the file was written
_ANCHORS = "0.x leaves anchors at angle 0: the config needs FakeRotatedAnchorGenerator(angle_version=None)"


@dataclass(frozen=True)
class Family:
    """Detectors of 0.x whose weights have the same names.

    Attributes:
        name: Its name in papers.
        prefix: Prefix of weights of this family, and of no family after it.
        renames: Pattern at the start of a key and its replacement; the first that matches applies.
        notes: Other changes between 0.x and 1.x.
    """

    name: str
    prefix: str
    renames: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


FAMILIES = (
    Family(
        "S2ANet",
        "fam_head.",
        (
            (r"fam_head\.", "bbox_head_init."),
            (r"align_conv\.", "bbox_head_refine.0.feat_refine_module."),
            (r"odm_head\.odm_(cls|reg)\.", r"bbox_head_refine.0.retina_\1."),
            (r"odm_head\.", "bbox_head_refine.0."),
        ),
        (
            _ANCHORS,
            "0.x has one alignment convolution per level: the config needs rsfoundation.PerLevelAlignConv",
        ),
    ),
    Family(
        "R3Det",
        "refine_head.",
        (
            (r"bbox_head\.", "bbox_head_init."),
            (r"feat_refine_module\.(\d+)\.", r"bbox_head_refine.\1.feat_refine_module."),
            (r"refine_head\.(\d+)\.", r"bbox_head_refine.\1."),
        ),
        (
            _ANCHORS,
            "`oc` is (0, 90] degrees in 0.x and [-90, 0) in 1.x: rsfoundation.OpenCVAngleCoder keeps 0.x's",
        ),
    ),
    Family(
        "RoI Transformer",
        "roi_head.bbox_head.0.",
        notes=("angles spread by 1 and 0.5 in 0.x, by 0.1 and 0.05 in the configs of mmrotate 1.x",),
    ),
    Family(
        "Strip R-CNN",
        "roi_head.bbox_head.reg_xy_wh_convs.",
        (
            (r"roi_head\.bbox_head\.reg_xy_wh_convs\.0\.", "roi_head.bbox_head.reg_convs.0."),
            (r"roi_head\.bbox_head\.reg_xy_wh_convs\.1\.", "roi_head.bbox_head.strip."),
            (r"roi_head\.bbox_head\.reg_theta_fcs\.", "roi_head.bbox_head.angle_fcs."),
            (r"roi_head\.bbox_head\.fc_reg_xy_wh\.", "roi_head.bbox_head.fc_reg."),
            (r"roi_head\.bbox_head\.fc_reg_theta\.", "roi_head.bbox_head.fc_angle."),
        ),
    ),
    Family("two-stage detector", "roi_head.", notes=("keys are unchanged",)),
    Family("one-stage detector", "bbox_head.", notes=("keys are unchanged", _ANCHORS)),
)


def family_of(keys: Iterable[str]) -> Family | None:
    """Return the family that weights of these names belong to, or ``None``."""
    names = list(keys)
    return next((known for known in FAMILIES if any(key.startswith(known.prefix) for key in names)), None)


def rename(key: str, family: Family) -> str:
    """Return the name in mmrotate 1.x of a weight of 0.x.

    Args:
        key: The name in 0.x.
        family: The detector's family.
    """
    for pattern, replacement in family.renames:
        renamed, count = re.subn(f"^{pattern}", replacement, key)
        if count:
            return renamed
    return key


_LISTED = 12  # names given in an error


@dataclass(frozen=True)
class ConvertedDetector:
    """Report of a conversion.

    Attributes:
        family: The detector's family, by the names of its weights.
        tensors: Number of weights and buffers written.
        renamed: Number of those with new names.
        dropped: Names that were dropped: the second set of weights that averaging keeps.
        notes: Changes between 0.x and 1.x other than names.
        output: The file written.
    """

    family: str
    tensors: int
    renamed: int
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    output: Path


def convert_detector(source: Path, config: str | Path, output: Path) -> ConvertedDetector:
    """Rename the weights of a 0.x checkpoint and check them against the model of a config.

    Args:
        source: Checkpoint of mmrotate 0.x.
        config: Config, by path or name, of the same detector.
        output: A ``.pth`` or ``.safetensors`` file.

    Raises:
        CheckpointError: The weights are no detector's, or are not exactly those of the model; the names are
            listed.
        ConfigError: The config interprets boxes differently from 0.x.
    """
    check_output(output)
    cfg = load_config(config)
    content = read_checkpoint(source)
    weights = content.get("state_dict", content)
    state = {key.removeprefix("module."): value for key, value in weights.items()}
    dropped = tuple(key for key in state if key.startswith(_AVERAGED))
    family = family_of(state)
    if family is None:
        raise CheckpointError(
            f"these are no weights of a detector: {', '.join(list(state)[:3]) or 'nothing at all'}",
            where=source,
        )
    converted = {rename(key, family): value for key, value in state.items() if key not in dropped}
    _compare(converted, _model_shapes(cfg), source, str(config))
    differences = list(_other_conventions(cfg.model))
    if differences:
        raise ConfigError(
            "; ".join(differences), where=config, fix="take the head files in configs/_base_/heads"
        )
    classes = content.get("meta", {}).get("CLASSES")
    save_weights(converted, output, {"dataset_meta": {"classes": tuple(classes)}} if classes else {})
    renamed = sum(rename(key, family) != key for key in state if key not in dropped)
    return ConvertedDetector(family.name, len(converted), renamed, dropped, family.notes, output)


def _model_shapes(cfg: Config) -> dict[str, torch.Size]:
    drop_sync_bn(cfg)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    with torch.device("meta"):
        model = ROOT_MODELS.build(cfg.model)
    return {key: value.shape for key, value in model.state_dict().items()}


def _compare(found: Mapping[str, Any], wanted: Mapping[str, torch.Size], source: Path, config: str) -> None:
    unknown = [key for key in found if key not in wanted]
    missing = [key for key in wanted if key not in found]
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(shape)}"
        for key, shape in wanted.items()
        if key in found and found[key].shape != shape
    ]
    kinds = (("unexpected", unknown), ("missing", missing), ("of another shape", shapes))
    listed = [f"{len(names)} {kind}: {_first_names(names)}" for kind, names in kinds if names]
    if listed:
        raise CheckpointError(
            f"the weights are not those of the config's model ({config}): {'; '.join(listed)}",
            where=source,
            fix="take the config of the same backbone, head and number of classes",
        )


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _other_conventions(node: Any) -> Iterator[str]:
    """Yield the places where a model's config interprets the same numbers as other boxes than 0.x."""
    if isinstance(node, Mapping):
        kind, version = node.get("type"), node.get("angle_version")
        if str(kind).endswith("FakeRotatedAnchorGenerator") and version is not None:
            yield f"anchors of 0.x stay at angle 0, those of the config turn (angle_version={version!r})"
        if kind == "DeltaXYWHTRBBoxCoder" and version == "oc":
            yield "`oc` of 0.x is (0, 90] degrees, the config's [-90, 0): take rsfoundation.OpenCVAngleCoder"
        if kind == "mmdet.CascadeRoIHead":
            spread = [head["bbox_coder"]["target_stds"][-1] for head in node["bbox_head"]]
            if spread != [1.0, 0.5]:
                yield f"0.x spreads the angles of its stages by 1 and 0.5, the config by {spread}"
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _other_conventions(value)


def check_output(output: Path) -> None:
    """Check that weights can be written to a file: `.pth` or `.safetensors`.

    Raises:
        ConfigError: It has another suffix.
    """
    if output.suffix not in (".pth", ".safetensors"):
        raise ConfigError(
            f"{output} is neither a .pth nor a .safetensors file",
            fix="choose one of these suffixes",
        )


def save_weights(state: Mapping[str, Any], output: Path, meta: Mapping[str, Any]) -> None:
    """Write weights; the file appears whole.

    Args:
        state: Tensors by name.
        output: A ``.pth`` or ``.safetensors`` file.
        meta: What goes with them.
    """
    if output.suffix == ".safetensors":
        write_safetensors(state, output, meta)
        return
    with published(output) as temporary:
        torch.save({"meta": dict(meta), "state_dict": state}, temporary)


def merge_lora(source: str | Path, output: Path, config: str | Path | None = None) -> int:
    """Write a checkpoint of the plain model with its LoRA adapters added to the weights.

    Args:
        source: A checkpoint with adapters, or a run folder (its best checkpoint).
        output: A ``.pth`` or ``.safetensors`` file.
        config: The config with the ``lora`` block; ``config.py`` next to the checkpoint when not given.

    Returns:
        The number of adapters merged.

    Raises:
        RSFError: The config has no adapters, or it and the checkpoint do not belong together.
    """
    check_output(output)
    checkpoint = find_checkpoint(source)
    cfg = config_of_checkpoint(checkpoint, config)
    cfg = resolve_config(cfg, RunOptions(), build_task(cfg), RunRequest("predict")).cfg
    content = read_saved(checkpoint)
    kept = content.get("meta", {})
    init_default_scope(cfg.get("default_scope", "mmengine"))
    network, merged = inference_model(cfg, content, checkpoint)
    if not merged:
        raise ConfigError(
            "the config has no lora block: there is nothing to merge",
            where=cfg.filename,
            fix="give the config of the adapted model with --config",
        )
    meta = {key: kept[key] for key in ("dataset_meta", "epoch", "iter") if key in kept}
    save_weights(network.state_dict(), output, meta)
    return merged
