"""From an mmengine ``optim_wrapper`` to DeepSpeed's config, so that any config runs under ZeRO unchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from rsfoundation.errors import ConfigError

_PLAIN = ("OptimWrapper", "DeepSpeedOptimWrapper")
_MIXED = ("AmpOptimWrapper", "CPUAmpOptimWrapper")
_NO_IDENTITY = ("params", "param_names", "group_name")  # what groups of equal treatment may differ in


def take_wrapper_options(wrapper: dict[str, Any], config: dict[str, Any]) -> torch.dtype | None:
    """Move clipping, accumulation and precision from ``wrapper`` to DeepSpeed's ``config``, both in place.

    Args:
        wrapper: The config's ``optim_wrapper``; afterwards one that builds mmengine's DeepSpeed wrapper.
        config: DeepSpeed's config.

    Returns:
        The type of autocast for the forward pass; ``None`` for none.

    Raises:
        ConfigError: The wrapper asks for what DeepSpeed cannot do.
    """
    kind = str(wrapper.get("type", "OptimWrapper")).rsplit(".", 1)[-1]
    if kind not in _PLAIN + _MIXED:
        raise ConfigError(
            f"DeepSpeed steps through its own wrapper, the config asks for '{kind}'",
            where="optim_wrapper.type",
            cure="use OptimWrapper or AmpOptimWrapper, or --strategy ddp",
        )
    wrapper["type"] = "DeepSpeedOptimWrapper"
    _take_clipping(wrapper.pop("clip_grad", None), config)
    config["gradient_accumulation_steps"] = wrapper.pop(
        "accumulative_counts", config.get("gradient_accumulation_steps", 1)
    )
    wrapper.pop("loss_scale", None)
    asked = wrapper.pop("dtype", None)
    return _take_precision(kind, asked, config)


def _take_clipping(clip: dict[str, Any] | None, config: dict[str, Any]) -> None:
    if not clip:
        return
    if "max_norm" not in clip or clip.get("norm_type", 2) != 2 or clip.get("type", "norm") != "norm":
        raise ConfigError(
            f"DeepSpeed clips by the 2-norm of all gradients, the config asks for {dict(clip)}",
            where="optim_wrapper.clip_grad",
            cure="use clip_grad=dict(max_norm=...), or --strategy ddp",
        )
    config["gradient_clipping"] = clip["max_norm"]


def _take_precision(kind: str, asked: Any, config: dict[str, Any]) -> torch.dtype | None:
    """Choose between whole-model precision (DeepSpeed's ``bf16``/``fp16``) and autocast over float32."""
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        if config.get(name, {}).get("enabled"):
            return dtype
    if kind not in _MIXED:
        return None
    if kind == "CPUAmpOptimWrapper" or str(asked).rsplit(".", 1)[-1] == "bfloat16":
        return torch.bfloat16
    # float16 needs the loss scaled, which DeepSpeed does for float16 models only.
    config["fp16"] = {"enabled": True, "initial_scale_power": 16}
    return torch.float16


def tidy_groups(optimizer: Optimizer) -> None:
    """Drop frozen parameters and merge groups of equal settings, in place.

    mmengine makes one group per parameter; ZeRO keeps one flat buffer and one collective per group, and
    fails on groups without a trained parameter.
    """
    merged: dict[str, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        trained = [parameter for parameter in group["params"] if parameter.requires_grad]
        if not trained:
            continue
        settings = {key: value for key, value in group.items() if key not in _NO_IDENTITY}
        into = merged.setdefault(repr(sorted(settings.items())), {**settings, "params": []})
        into["params"] += trained
    if not merged:
        raise ConfigError("every parameter is frozen: there is nothing to train", where="model")
    optimizer.param_groups = list(merged.values())


def plain(node: Any) -> Any:
    """Turn mmengine's config dicts into plain ones: DeepSpeed pickles its config into every checkpoint."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [plain(value) for value in node]
    return node
