"""The backbone of a checkpoint as a file under its published names, with a model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from rsfoundation import __version__
from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.engine.checkpointing.convert import check_output, save_weights
from rsfoundation.engine.checkpointing.find import config_of_checkpoint, find_checkpoint, read_saved
from rsfoundation.engine.config import dicts_of
from rsfoundation.engine.model_builder import check_state_dict
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.io.checkpoints import write_text
from rsfoundation.models.classifiers import recognition_backbone
from rsfoundation.models.distill.teachers import encoder_config, fold_targets
from rsfoundation.models.encoders.base import PlainEncoder
from rsfoundation.models.pretrained.catalogue import WEIGHTS
from rsfoundation.registry import MODELS

_RECOGNITION = ("SceneClassifier", "SimMIM", "MAE")  # they take of a backbone's config what recognition needs
_BLOCK = 1 << 20


@dataclass(frozen=True)
class ExportedBackbone:
    """What was written.

    Attributes:
        output: The weights.
        card: The model card, Markdown.
        tensors: Number of tensors.
        sha256: Of the weights' file, in hex.
    """

    output: Path
    card: Path
    tensors: int
    sha256: str


@dataclass(frozen=True)
class TrainedBackbone:
    """The backbone of a checkpoint.

    Attributes:
        network: In evaluation mode; of a distilled student in the units of its teacher, where they fold.
        state: Its weights.
        described: Its config.
        units: What a model card says of the units of its maps.
        cfg: The config of the run.
        checkpoint: Its file.
        meta: What the checkpoint says of the run.
    """

    network: nn.Module
    state: dict[str, torch.Tensor]
    described: dict[str, Any]
    units: list[str]
    cfg: Config
    checkpoint: Path
    meta: Mapping[str, Any]


def export_backbone(
    source: str | Path,
    output: Path,
    config: str | Path | None = None,
    licence: str = "",
    description: str = "",
) -> ExportedBackbone:
    """Write the backbone of a checkpoint under its published names, and a model card next to it.

    The card has what the run folder knows: network, data, recipe, metrics, the weights that training started
    from with their licence, and the hash of the file.

    Args:
        source: A checkpoint of any task, or a run folder (its best, else newest checkpoint).
        output: A ``.pth`` or ``.safetensors`` file.
        config: The config; ``config.py`` next to the checkpoint when not given.
        licence: Licence of the weights.
        description: What they are for.

    Raises:
        RSFError: There is no checkpoint or config, or the checkpoint holds no backbone of the config.
    """
    check_output(output)
    trained = trained_backbone(source, config)
    state, described = trained.state, trained.described
    if isinstance(getattr(trained.network, "encoder", None), PlainEncoder):
        # what has published names is the encoder
        state = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
        described = dict(described["encoder"])
    save_weights(state, output, dict(backbone=_plain_text(described), rsfoundation=__version__))
    digest = _sha256(output)
    card = output.with_suffix(".md")
    parts = _card(trained.cfg, described, state, trained.checkpoint, trained.meta)
    parts["Network"] += trained.units
    write_text(card, _as_markdown(output, digest, licence, description, parts))
    return ExportedBackbone(output, card, len(state), digest)


def trained_backbone(
    source: str | Path, config: str | Path | Config | None = None, overrides: Sequence[str] = ()
) -> TrainedBackbone:
    """Return the backbone of a checkpoint of any task, without the rest of its model.

    Args:
        source: A checkpoint of any task, or a run folder (its best, else newest checkpoint).
        config: The config, or one that was read; ``config.py`` next to the checkpoint when not given.
        overrides: ``key.sub=value`` strings applied to the config.

    Raises:
        RSFError: There is no checkpoint or config, or the checkpoint holds no backbone of the config.
    """
    checkpoint = find_checkpoint(source)
    cfg = config_of_checkpoint(checkpoint, config, overrides)
    content = read_saved(checkpoint)
    saved = content.get("state_dict", content)
    if content.get("meta", {}).get("lora_base") or any(".lora_" in key for key in saved):
        raise CheckpointError(
            "the checkpoint holds adapters, which are not merged into the weights that they adapt",
            where=checkpoint,
            fix=f"rsf convert merge-lora {checkpoint} merged.pth, then convert merged.pth with --config",
        )
    described = _backbone_config(cfg)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    network = MODELS.build({**described, "init_cfg": None})
    state = {
        key.removeprefix("module.").removeprefix("backbone."): value
        for key, value in saved.items()
        if key.removeprefix("module.").startswith("backbone.") and isinstance(value, torch.Tensor)
    }
    check_state_dict(network, {"state_dict": state}, checkpoint)
    own = network.state_dict()
    state = {key: value for key, value in state.items() if key in own}
    state, units = _in_units_of_teacher(network, state, saved)
    network.load_state_dict(state, strict=False)
    return TrainedBackbone(network.eval(), state, described, units, cfg, checkpoint, content.get("meta", {}))


def _backbone_config(cfg: Config) -> dict[str, Any]:
    """Return the config of the backbone that the model builds, without SyncBN."""
    drop_sync_bn(cfg)
    model: Any = cfg.get("model") or {}
    if "backbone" not in model:
        raise ConfigError("the config's model has no backbone", where=f"{cfg.filename}: model")
    backbone = dict(model.backbone)
    if str(model.type).rsplit(".", 1)[-1] == "FeatureDistiller":
        return encoder_config(backbone)
    if str(model.type).rsplit(".", 1)[-1] in _RECOGNITION:
        backbone = recognition_backbone(backbone)
    return backbone


def _in_units_of_teacher(
    network: nn.Module, state: dict[str, torch.Tensor], saved: Mapping[str, Any]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Fold the statistics of distilled targets into a student; also return what the card says of it."""
    if "target_mean" not in saved:
        return state, []
    if any(key.startswith("adapter.") for key in saved):
        return state, ["the map is the student's own: the adapter to the teacher's channels was dropped"]
    folded = fold_targets(network, state, saved["target_mean"], saved["target_deviation"])
    if folded is None:
        return state, ["the map is the teacher's with each channel standardised by the training images"]
    return folded, ["the map is in the units of the teacher: its statistics are folded into the last norm"]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _plain_text(described: Mapping[str, Any]) -> str:
    names = sorted(described.keys() - {"init_cfg", "norm_cfg"}, key=lambda key: (key != "type", key))
    shown = {key: described[key] for key in names}
    return ", ".join(f"{key}={value!r}" for key, value in shown.items())


def _card(
    cfg: Config,
    described: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    checkpoint: Path,
    meta: Mapping[str, Any],
) -> dict[str, list[str]]:
    """Return the lines of each section of the card."""
    parameters = sum(value.numel() for value in state.values() if value.is_floating_point())
    bands = described.get("in_channels", described.get("num_channels", 3))
    return {
        "Network": [_plain_text(described), f"{parameters:,} numbers in {len(state)} tensors; {bands} bands"],
        "Data": _data(cfg),
        "Recipe": [*_recipe(cfg), *_progress(meta)],
        "Started from": _origins(cfg),
        "Metrics": _metrics(checkpoint.parent),
    }


def _data(cfg: Config) -> list[str]:
    dataset = (cfg.get("train_dataloader") or {}).get("dataset") or {}
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    lines = [f"{dataset.get('type', 'not named')}, data_root={dataset.get('data_root', '')!r}"]
    keys = ("ann_file", "split", "train_ratio", "split_seed", "inputs", "window")
    lines += [f"{key}={dataset[key]!r}" for key in keys if dataset.get(key) not in (None, "", ())]
    steps = [str(step.get("type")).removeprefix("rsfoundation.") for step in dataset.get("pipeline", [])]
    lines += [f"pipeline: {', '.join(steps)}"] if steps else []
    declared = cfg.get("image_loading")
    return [*lines, f"image_loading={dict(declared)!r}"] if declared else lines


def _recipe(cfg: Config) -> list[str]:
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    loop, loader = cfg.get("train_cfg") or {}, cfg.get("train_dataloader") or {}
    settings = ", ".join(f"{key} {value}" for key, value in optimizer.items() if key != "type")
    model = cfg.model
    options = {k: v for k, v in model.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    length = " ".join(f"{key}={loop[key]}" for key in ("max_epochs", "max_iters") if key in loop)
    return [
        f"{str(model.type).removeprefix('rsfoundation.')}"
        + "".join(f", {key}={value}" for key, value in options.items()),
        f"{optimizer.get('type', 'optimizer not named')}: {settings}",
        f"batch of {loader.get('batch_size', '?')} per rank, {length or 'length not named'}",
    ]


def _progress(meta: Mapping[str, Any]) -> list[str]:
    done = ", ".join(f"{key} {meta[key]}" for key in ("epoch", "iter") if key in meta)
    return [f"checkpoint at {done}"] if done else []


def _origins(cfg: Config) -> list[str]:
    """Return the weights that the config names, with their licences."""
    names = [
        str(node["checkpoint"])
        for _, node in dicts_of(cfg.model)
        if node.get("type") == "Pretrained" and node.get("checkpoint")
    ]
    lines = []
    for name in dict.fromkeys(names):
        known = WEIGHTS.get(name)
        lines.append(f"{name}: licence {known.licence}; {known.trained_on}; {known.page}" if known else name)
    return lines or ["random weights"]


def _metrics(folder: Path) -> list[str]:
    """Return what the run folder has measured: the last validation, tests and probes."""
    lines = []
    for name in ("test.json", "probe.json"):
        file = folder / name
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))["metrics"]
            lines += [f"{key} {value:.4f} ({name})" for key, value in found.items()]
    record = folder / "metrics.json"
    if record.is_file():
        content = json.loads(record.read_text(encoding="utf-8"))
        for part, title in (("val", "last validation"), ("train", "last training row")):
            for key, value in (content.get(part) or [{}])[-1].items():
                wanted = key not in ("epoch", "iter") if part == "val" else key == "loss"
                lines += [f"{key} {value:.4f} ({title})"] if wanted and value is not None else []
    return lines or ["not measured"]


def _as_markdown(
    output: Path, digest: str, licence: str, description: str, parts: Mapping[str, list[str]]
) -> str:
    """Return the card: a header that Hugging Face reads, and one section per part."""
    lines = ["---", f"license: {licence or 'other'}", "library_name: rsfoundation", "---", ""]
    lines += [f"# {output.stem}", ""]
    lines += [description, ""] if description else []
    lines += [f"- licence: {licence or 'not stated'}", f"- file: `{output.name}`, SHA-256 `{digest}`"]
    lines.append(f"- made with rsfoundation {__version__}")
    for title, entries in parts.items():
        lines += ["", f"## {title}", "", *(f"- {entry}" for entry in entries)]
    lines += [
        *("", "## Use", "", "In the config of any task with this backbone:", "", "```python"),
        f"init_cfg = dict(type='Pretrained', checkpoint='{output.name}')  # of the backbone",
        *("```", ""),
    ]
    return "\n".join(lines)
