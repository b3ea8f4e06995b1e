"""Build a backbone by name, without a config: ``create_model('lsknet_t')``.

The table below holds the networks by name, as in ``configs/_base_/backbones`` but without what belongs to a
training recipe (dropout, stochastic depth, SyncBN). Published weights are in
:mod:`rsfoundation.models.pretrained.catalogue`.
"""

import fnmatch
import importlib
import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import BaseModule

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.models.pretrained.catalogue import WEIGHTS
from rsfoundation.registry import MODELS

# Registered type -> module below rsfoundation.models. Only this module is imported to build a named network;
# the registry would import every module of the package, and mmdet and mmseg with them.
_MODULES = {
    "LSKNet": "backbones.lsknet",
    "StripNet": "backbones.stripnet",
    "LWGANet": "backbones.lwganet",
    "RSPResNet": "backbones.resnet",
    "RSPSwinTransformer": "backbones.swin",
    "ViTAEv2": "backbones.vitae",
    "RSMamba": "encoders.rsmamba",
    "SAMViT": "encoders.sam_vit",
    "PlainPyramid": "encoders.base",
}


def _pyramid(depth: int, **encoder: Any) -> dict[str, Any]:
    """Return a plain encoder as a pyramid: maps at every quarter of its ``depth``."""
    indices = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    return dict(type="PlainPyramid", encoder=dict(encoder, out_indices=indices))


NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "lsknet_t": dict(type="LSKNet", arch="t"),
    "lsknet_s": dict(type="LSKNet", arch="s"),
    "stripnet_t": dict(type="StripNet", arch="t"),
    "stripnet_s": dict(type="StripNet", arch="s"),
    "lwganet_l0": dict(type="LWGANet", arch="l0"),
    "lwganet_l1": dict(type="LWGANet", arch="l1"),
    "lwganet_l2": dict(type="LWGANet", arch="l2"),
    "rsp_resnet50": dict(type="RSPResNet", depth=50),
    "rsp_swin_t": dict(type="RSPSwinTransformer", arch="t"),
    "vitaev2_s": dict(type="ViTAEv2", arch="s"),
    "rsmamba_s": _pyramid(16, type="RSMamba", arch="s", out_type="featmap"),
    "rsmamba_b": _pyramid(24, type="RSMamba", arch="b", out_type="featmap"),
    "rsmamba_l": _pyramid(28, type="RSMamba", arch="l", out_type="featmap"),
    "rsmamba_h": _pyramid(32, type="RSMamba", arch="h", out_type="featmap"),
    "rsmamba_u": _pyramid(48, type="RSMamba", arch="u", out_type="featmap"),
    "rsmamba_b_all": dict(type="RSMamba", arch="b", out_type="featmap_hwc", out_indices=list(range(24))),
    "rsmamba_l_all": dict(type="RSMamba", arch="l", out_type="featmap_hwc", out_indices=list(range(28))),
    "rsmamba_h_all": dict(type="RSMamba", arch="h", out_type="featmap_hwc", out_indices=list(range(32))),
    "sam_vit_base": _pyramid(12, type="SAMViT", arch="base"),
    "sam_vit_large": _pyramid(24, type="SAMViT", arch="large"),
    "sam_vit_huge": _pyramid(32, type="SAMViT", arch="huge"),
    "sam_vit_base_all": dict(type="SAMViT", arch="base", output_hidden_states=True),
    "sam_vit_huge_all": dict(type="SAMViT", arch="huge", output_hidden_states=True),
}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that :func:`create_model` knows, sorted, without importing a network.

    Args:
        pattern: Shell pattern such as ``'lsknet*'``.
    """
    return sorted(fnmatch.filter(NETWORKS, pattern))


def create_model(name: str, pretrained: bool | str | Path = False, **kwargs: Any) -> BaseModule:
    """Build a backbone, in training mode as PyTorch builds modules.

    Args:
        name: A name of :func:`list_models`, such as ``'lsknet_t'``, or a registered type, such as
            ``'LSKNet'`` (then ``kwargs`` name the architecture).
        pretrained: ``True`` for the published weights of that network; a file, a link or a name of
            ``rsf info models`` for others; ``False`` for random weights.
        **kwargs: Arguments of the network, in place of those in the table: ``in_channels=5``,
            ``out_indices=(1, 2, 3)``, ``drop_path_rate=0.1``. Those that a pyramid over a plain encoder does
            not have go to its encoder.

    Returns:
        The network; ``out_channels`` and ``out_strides`` describe the maps that its ``forward`` returns.

    Raises:
        ConfigError: Unknown name or argument, or no published weights.
        CheckpointError: The weights cannot be found, read, or do not fit.
    """
    network = _describe(name, kwargs)
    holder = network.get("encoder", network)  # the part that has weights
    if pretrained:
        checkpoint = _published(name, holder) if pretrained is True else str(pretrained)
        holder["init_cfg"] = dict(type="Pretrained", checkpoint=checkpoint)
    model = _build(network)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # mmengine prints three lines for every weight where no log file is open
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)
    return model


def _describe(name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a network with the caller's arguments in it."""
    if name not in NETWORKS:
        if MODELS.get(name) is None:
            raise ConfigError(
                f"there is no network called {name!r}",
                where="create_model",
                fix=nearest(name, NETWORKS) or f"one of {', '.join(list_models())}",
            )
        return {"type": name, **kwargs}
    network = dict(NETWORKS[name])
    if "encoder" in network:
        own = set(inspect.signature(_find_type(network["type"])).parameters)
        rest = {key: value for key, value in kwargs.items() if key not in own}
        network["encoder"] = {**network["encoder"], **rest, **kwargs.get("encoder", {})}
        kwargs = {key: value for key, value in kwargs.items() if key in own and key != "encoder"}
    return {**network, **kwargs}


def _published(name: str, network: Mapping[str, Any]) -> str:
    """Return the name of the first published checkpoint of a network."""
    for weights in WEIGHTS.values():
        if all(network.get(key) == value for key, value in weights.backbone.items()):
            return weights.name
    raise ConfigError(
        f"{name} has no published weights",
        where="create_model(pretrained=True)",
        fix="give pretrained a file or a link; `rsf info models` lists the published weights",
    )


def _build(network: Mapping[str, Any]) -> BaseModule:
    """Build a network from its config."""
    if "encoder" in network:
        _check_arguments(network["encoder"])
    _check_arguments(network)
    if network["type"] not in _MODULES:
        return MODELS.build(dict(network))
    return _find_type(network["type"])(**{key: value for key, value in network.items() if key != "type"})


def _find_type(kind: str) -> Any:
    """Return a registered type; of those of the table, only the module is imported."""
    if kind in _MODULES:
        return getattr(importlib.import_module(f"rsfoundation.models.{_MODULES[kind]}"), kind)
    return MODELS.get(kind)


def _check_arguments(network: Mapping[str, Any]) -> None:
    """Check that a type has the arguments that its config gives it."""
    known = inspect.signature(_find_type(network["type"])).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    unknown = sorted(network.keys() - known.keys() - {"type"})
    if unknown:
        raise ConfigError(
            f"{network['type']} has no argument {unknown[0]!r}",
            where="create_model",
            fix=nearest(unknown[0], known) or f"its arguments: {', '.join(known)}",
        )
