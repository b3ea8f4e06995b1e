"""LoRA by one config block: adapters of the ``peft`` package in a backbone whose own weights stay frozen.

``lora = dict(rank=8, target=[...])`` at the top of a config is all; names and values are those of
:func:`with_lora`.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS as _ROOT
from torch import nn

from rsfoundation.engine.parts import find_part
from rsfoundation.errors import CheckpointError, ConfigError
from rsfoundation.registry import MODELS


def model_config(cfg: Config) -> Any:
    """Return what to build for ``cfg.model``: with adapters where the config has a ``lora`` block."""
    options = {key: value for key, value in (cfg.get("lora") or {}).items() if key != "adapters_only"}
    return dict(type="rsfoundation.with_lora", model=cfg.model, **options) if cfg.get("lora") else cfg.model


@MODELS.register_module()
def with_lora(
    model: dict[str, Any],
    rank: int = 8,
    alpha: int = 16,
    target: str | Sequence[str] = r"(.*\.)?(qkv|proj|fc1|fc2|in_proj|out_proj|x_proj)",
    dropout: float = 0.0,
    scope: str = "backbone",
    data_preprocessor: Any = None,
) -> nn.Module:
    """Build a model, freeze one part of it and put low-rank adapters into that part.

    Args:
        model: Config of the model.
        rank: Rank of the adapters (Hu et al., 2021).
        alpha: The adapters' output is scaled by ``alpha / rank``.
        target: Which linear layers and convolutions of the part: a pattern that matches the whole name, or
            the last parts of their names.
        dropout: Dropout before the adapters.
        scope: The part. What lies outside, such as neck and heads, is trained as ever.
        data_preprocessor: Goes to the model.

    Raises:
        ConfigError: ``peft`` is missing, or nothing in the part is called so.
    """
    if find_spec("peft") is None:
        raise ConfigError("lora needs peft, which is not installed", cure="pip install 'rsfoundation[peft]'")
    from peft import LoraConfig, inject_adapter_in_model

    if data_preprocessor is not None:
        model = {"data_preprocessor": data_preprocessor, **model}
    network: nn.Module = _ROOT.build(model)
    part = find_part(network, scope, where="lora.scope")
    names = _targets(part, target)
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=dropout), part
    )
    plain: Callable[[], None] = network.init_weights  # type: ignore[assignment]
    network.init_weights = functools.partial(_init_without_adapters, network, plain)  # type: ignore[assignment]
    return network


def _targets(part: nn.Module, target: str | Sequence[str]) -> list[str]:
    layers = [name for name, module in part.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    if isinstance(target, str):
        names = [name for name in layers if re.fullmatch(target, name)]
    else:
        names = [name for name in layers if any(f".{name}".endswith(f".{end}") for end in target)]
    if not names:
        ends = dict.fromkeys(name.rsplit(".", 1)[-1] for name in layers)
        raise ConfigError(
            f"no layer of {type(part).__name__} matches {target!r}",
            where="lora.target",
            cure=f"its layers end in: {', '.join(ends)}",
        )
    return names


def adapters(network: nn.Module) -> dict[str, Any]:
    """Return the adapted layers of a network by name."""
    if find_spec("peft") is None:
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)}


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, child = name.rpartition(".")
    network.get_submodule(owner)._modules[child] = module


@contextmanager
def _without(network: nn.Module) -> Iterator[None]:
    """Put the layers that were adapted back in their places for a while."""
    layers = adapters(network)
    for name, layer in layers.items():
        _put(network, name, layer.base_layer)
    try:
        yield
    finally:
        for name, layer in layers.items():
            _put(network, name, layer)


def _init_without_adapters(network: nn.Module, plain: Callable[[], None]) -> None:
    """Initialise as without adapters: under the names of published weights, and leaving adapters at zero."""
    with _without(network):
        plain()


def frozen_names(network: nn.Module) -> list[str]:
    """Return the names of the parameters that are not trained."""
    return [name for name, parameter in network.named_parameters() if not parameter.requires_grad]


def fingerprint(network: nn.Module) -> str:
    """Return a SHA-256 over the frozen parameters: what adapters alone belong to."""
    digest = hashlib.sha256()
    parameters = dict(network.named_parameters())
    for name in frozen_names(network):
        digest.update(name.encode())
        digest.update(
            parameters[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def adapt_names(network: nn.Module, state: dict[str, Any]) -> None:
    """Give weights that were saved without adapters the names they have under them, in place."""
    for name in adapters(network):
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in state:
                state[f"{name}.base_layer.{kind}"] = state.pop(f"{name}.{kind}")


def adapt_state(network: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Make a checkpoint fit a network with adapters, in place.

    Weights saved without adapters get the names they have under them. For adapters saved alone, the
    network's frozen weights are loaded first, from where its ``init_cfg`` says, and compared.

    Raises:
        CheckpointError: The adapters belong to other weights.
    """
    if not adapters(network):
        return
    state = checkpoint.get("state_dict", checkpoint)
    adapt_names(network, state)
    wanted = checkpoint.get("meta", {}).get("lora_base")
    if wanted is None or state.keys() >= set(frozen_names(network)):
        return
    if fingerprint(network) != wanted:
        network.init_weights()  # type: ignore[operator]
    check_base(fingerprint(network), wanted)


def check_base(found: str, wanted: str) -> None:
    """Compare the fingerprint of frozen weights with the one that adapters were trained on.

    Raises:
        CheckpointError: They differ.
    """
    if found != wanted:
        raise CheckpointError(
            "the checkpoint holds adapters alone, which were trained on other weights than the config names",
            where="init_cfg of the backbone",
            cure="name the same checkpoint there as in training",
        )


def merge_adapters(network: nn.Module) -> int:
    """Add every adapter to the weights of its layer and take it out, in place.

    Returns:
        How many there were. The network's names are then those it has without adapters.
    """
    layers = adapters(network)
    for name, layer in layers.items():
        layer.merge(safe_merge=True)
        _put(network, name, layer.base_layer)
    vars(network).pop("init_weights", None)
    return len(layers)
