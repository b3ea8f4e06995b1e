"""Weights of mmrotate 0.x detectors, made those of a config's model."""

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
from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.io.checkpoints import published, read_checkpoint, write_safetensors

AVERAGED = "ema_"  # buffers of 0.x's averaging hook: the weights not in use when the file was written
_ANCHORS = "0.x leaves anchors at angle 0: the config needs FakeRotatedAnchorGenerator(angle_version=None)"


@dataclass(frozen=True)
class Family:
    """Detectors of 0.x whose weights are called alike.

    Attributes:
        name: As papers call it.
        mark: Weights of this family, and of none after it, start so.
        renames: Pattern at the start of a key, and what takes its place; the first that fits applies.
        notes: What else changed between 0.x and 1.x.
    """

    name: str
    mark: str
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
    Family("two-stage detector", "roi_head.", notes=("keys are unchanged",)),
    Family("one-stage detector", "bbox_head.", notes=("keys are unchanged", _ANCHORS)),
)


def family_of(keys: Iterable[str]) -> Family | None:
    """Return the family that weights of these names belong to, or ``None``."""
    names = list(keys)
    return next((known for known in FAMILIES if any(key.startswith(known.mark) for key in names)), None)


def rename(key: str, family: Family) -> str:
    """Return what mmrotate 1.x calls a weight of 0.x."""
    for pattern, replacement in family.renames:
        renamed, count = re.subn(f"^{pattern}", replacement, key)
        if count:
            return renamed
    return key


_LISTED = 12  # names given in an error


@dataclass(frozen=True)
class ConvertedDetector:
    """What became of a checkpoint.

    Attributes:
        family: What its names say it is.
        tensors: Weights and buffers written.
        renamed: How many of them have new names.
        dropped: Names left out: the second set of weights that averaging keeps.
        notes: What changed between 0.x and 1.x beside names.
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
        ConfigError: The config reads boxes otherwise than 0.x did.
    """
    if output.suffix not in (".pth", ".safetensors"):
        raise ConfigError(f"{output} is neither a .pth nor a .safetensors file")
    cfg = load_config(config)
    content = read_checkpoint(source)
    weights = content.get("state_dict", content)
    state = {key.removeprefix("module."): value for key, value in weights.items()}
    dropped = tuple(key for key in state if key.startswith(AVERAGED))
    family = family_of(state)
    if family is None:
        raise CheckpointError(
            f"these are no weights of a detector: {', '.join(list(state)[:3]) or 'nothing at all'}",
            where=source,
        )
    converted = {rename(key, family): value for key, value in state.items() if key not in dropped}
    _compare(converted, _model_shapes(cfg), source, str(config))
    faults = list(_other_conventions(cfg.model))
    if faults:
        raise ConfigError("; ".join(faults), where=config, fix="take the head files in configs/_base_/heads")
    _write(converted, output, content.get("meta", {}))
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
    kinds = (("unknown to the model", unknown), ("missing", missing), ("of another shape", shapes))
    told = [f"{len(names)} {what}: {_some(names)}" for what, names in kinds if names]
    if told:
        raise CheckpointError(
            f"the weights are not those of the config's model ({config}): {'; '.join(told)}",
            where=source,
            fix="take the config of the same backbone, head and number of classes",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _other_conventions(node: Any) -> Iterator[str]:
    """Say where a model's config means other boxes than 0.x by the same numbers."""
    if isinstance(node, Mapping):
        kind, version = node.get("type"), node.get("angle_version")
        if kind == "FakeRotatedAnchorGenerator" and version is not None:
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


def _write(state: dict[str, Any], output: Path, old_meta: Mapping[str, Any]) -> None:
    classes = old_meta.get("CLASSES")
    meta = {"dataset_meta": {"classes": tuple(classes)}} if classes else {}
    if output.suffix == ".safetensors":
        write_safetensors(state, output, meta)
        return
    with published(output) as aside:
        torch.save({"meta": meta, "state_dict": state}, aside)
