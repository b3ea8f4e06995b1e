"""Looking at what there is: config headers, registered backbones and tasks, parameter counts."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope

from rsfoundation.engine.norm import drop_sync_bn
from rsfoundation.engine.runner import unknown_type_error
from rsfoundation.registry import MODELS, TASKS


def config_headline(file: Path) -> str:
    """Return the first comment line of a config: what it is and which number it stands for."""
    for line in file.read_text().splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").strip()
    return ""


def backbone_names() -> dict[str, str]:
    """Return every registered backbone with the first line of its docstring."""
    MODELS.import_from_location()
    return {
        name: _headline(kind)
        for name, kind in sorted(MODELS.module_dict.items())
        if kind.__module__.startswith("rsfoundation.backbones")
    }


def task_names() -> dict[str, str]:
    """Return every registered task with the first line of its docstring."""
    TASKS.import_from_location()
    return {name: _headline(kind) for name, kind in sorted(TASKS.module_dict.items())}


def count_parameters(cfg: Config) -> dict[str, tuple[int, int]]:
    """Build the model of a config and count ``(all, trainable)`` parameters per child and in total.

    Raises:
        ConfigError: A type of the config is registered nowhere.
    """
    drop_sync_bn(cfg)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    try:
        network = ROOT_MODELS.build(cfg.model)
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error
    parts = {**dict(network.named_children()), "total": network}
    return {
        name: (
            sum(p.numel() for p in part.parameters()),
            sum(p.numel() for p in part.parameters() if p.requires_grad),
        )
        for name, part in parts.items()
    }


def _headline(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n")[0]
