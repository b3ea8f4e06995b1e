"""What a run with LoRA adapters needs: a small optimiser, small checkpoints, adapters that are in use."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS as _ROOT
from mmengine.runner import FlexibleRunner, Runner
from torch import nn

from rsfoundation.core.errors import CheckpointError, ConfigError, nearest
from rsfoundation.registry import HOOKS, MODELS


def find_part(model: nn.Module, name: str, where: str) -> nn.Module:
    """Return a submodule by its dotted name.

    Args:
        model: The whole model.
        name: Such as ``backbone``.
        where: The key of the config that names it, for the error.

    Raises:
        ConfigError: The model has no such part.
    """
    part = dict(model.named_modules()).get(name)
    if part is None:
        known = [child for child, _ in model.named_children()]
        raise ConfigError(
            f"the model has no part '{name}'",
            where=where,
            fix=nearest(name, known) or f"one of: {', '.join(known)}",
        )
    return part


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
        scope: The part. What is outside, such as neck and heads, is trained as ever.
        data_preprocessor: Goes to the model.

    Raises:
        ConfigError: ``peft`` is missing, nothing in the part is called so, or peft cannot adapt it.
    """
    if find_spec("peft") is None:
        raise ConfigError("lora needs peft, which is not installed", fix="pip install 'rsfoundation[peft]'")
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
            fix=f"its layers end in: {', '.join(ends)}",
        )
    _check_supported(part, names, target)
    return names


def _check_supported(part: nn.Module, names: Sequence[str], target: str | Sequence[str]) -> None:
    """Check that peft can adapt the layers; its adapters have no groups, dilation or padding mode.

    Merging an adapter of a grouped convolution is not implemented in peft; one of a dilated or reflecting
    convolution computes something else than the merged layer, or fails in its first forward.
    """
    reasons = {name: reason for name in names if (reason := _unsupported(part.get_submodule(name)))}
    if not reasons:
        return
    first, shown = next(iter(reasons)), "|".join(sorted({_any_index(name) for name in reasons}))
    pattern = target if isinstance(target, str) else rf"(?:.*\.)?(?:{'|'.join(map(re.escape, target))})"
    rest = [name for name in names if not re.fullmatch(shown, name)]
    raise ConfigError(
        f"{len(reasons)} of the {len(names)} layers of lora.target cannot have an adapter, first: {first} "
        f"({reasons[first]}); peft adapts convolutions with groups=1, dilation=1 and padding_mode='zeros'",
        where="lora.target",
        fix=f"exclude them: target=r'(?!(?:{shown})$)(?:{pattern})'" if rest else "choose other layers",
    )


def _unsupported(layer: nn.Module) -> str:
    """Return the setting of a layer that peft's adapters do not have, or an empty string."""
    if not isinstance(layer, nn.Conv2d):
        return ""
    if layer.groups > 1:
        return f"groups={layer.groups}"
    if layer.dilation != (1, 1):
        return f"dilation={layer.dilation}"
    return "" if layer.padding_mode == "zeros" else f"padding_mode={layer.padding_mode!r}"


def _any_index(name: str) -> str:
    """Return a pattern for a name with any number in place of its numbers."""
    return r"\d+".join(re.escape(piece) for piece in re.split(r"\d+", name))


def adapters(network: nn.Module) -> dict[str, Any]:
    """Return the adapted layers of a network by name."""
    if "peft" not in sys.modules:  # no layer can be one of its classes, and importing it takes seconds
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


def reloadable_names(network: nn.Module) -> list[str]:
    """Return the names of the frozen parameters that a checkpoint named by an ``init_cfg`` fills again.

    Checkpoints of adapters alone leave these out, and no others: frozen parameters of random weights, such
    as SAM's estimate of the IoU in a decoder that starts from scratch, exist nowhere else.
    """
    filled = tuple(
        f"{name}." if name else "" for name, module in network.named_modules() if _is_pretrained(module)
    )
    return [name for name in frozen_names(network) if name.startswith(filled)]


def _is_pretrained(module: nn.Module) -> bool:
    wanted = getattr(module, "init_cfg", None) or []
    parts = [wanted] if isinstance(wanted, dict) else wanted
    return any(part.get("type") == "Pretrained" for part in parts)


def fingerprint(network: nn.Module) -> str:
    """Return a SHA-256 over the frozen parameters that adapters alone are saved without."""
    digest = hashlib.sha256()
    parameters = dict(network.named_parameters())
    for name in reloadable_names(network):
        digest.update(name.encode())
        digest.update(
            parameters[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def adapt_names(network: nn.Module, state: dict[str, Any]) -> None:
    """Give weights that were saved without adapters the names they have under them, in place.

    Args:
        network: The network with adapters.
        state: Weights by name; renamed in place.
    """
    for name in adapters(network):
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in state:
                state[f"{name}.base_layer.{kind}"] = state.pop(f"{name}.{kind}")


def adapt_state(network: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Make a checkpoint fit a network with adapters, in place.

    Weights saved without adapters get the names they have under them. For adapters saved alone, the
    network's frozen weights are loaded first, from where its ``init_cfg`` says, and compared.

    Args:
        network: The network with adapters.
        checkpoint: A checkpoint with ``state_dict`` and ``meta``, or weights by name; changed in place.

    Raises:
        CheckpointError: The adapters belong to other weights.
    """
    if not adapters(network):
        return
    state = checkpoint.get("state_dict", checkpoint)
    adapt_names(network, state)
    wanted = checkpoint.get("meta", {}).get("lora_base")
    if wanted is None or state.keys() >= set(reloadable_names(network)):
        return
    if fingerprint(network) != wanted:
        network.init_weights()  # type: ignore[operator]
    check_base(fingerprint(network), wanted)


def check_base(found: str, wanted: str) -> None:
    """Compare the fingerprint of frozen weights with the one that adapters were trained on.

    Args:
        found: Fingerprint of the frozen weights at hand.
        wanted: Fingerprint that the adapters were saved with.

    Raises:
        CheckpointError: They differ.
    """
    if found != wanted:
        raise CheckpointError(
            "the checkpoint holds adapters alone, which were trained on other weights than the config names",
            where="init_cfg of the backbone",
            fix="name the same checkpoint there as in training",
        )


def merge_adapters(network: nn.Module) -> int:
    """Add every adapter to the weights of its layer and take it out, in place.

    Returns:
        How many there were. The network's names are then those it has without adapters, also where a part
        of it was one of peft's models (``peft_config`` of SAM's encoders).
    """
    layers = adapters(network)
    for name, layer in layers.items():
        layer.merge(safe_merge=True)
        _put(network, name, layer.base_layer)
    if layers:
        from peft import PeftModel

        wrapped = [(name, part) for name, part in network.named_modules() if isinstance(part, PeftModel)]
        for name, part in wrapped:
            _put(network, name, part.get_base_model())
    vars(network).pop("init_weights", None)
    return len(layers)


@HOOKS.register_module()
class LoRAHook(Hook):
    """Added to every run whose config has a ``lora`` block.

    Args:
        adapters_only: Leave frozen parameters that an ``init_cfg`` fills out of checkpoints, all of the
            backbone among them. Their SHA-256 is kept and compared when the adapters are loaded.
    """

    priority = "LOW"  # after EMAHook

    def __init__(self, adapters_only: bool = False) -> None:
        self.adapters_only = adapters_only
        self._calls: dict[str, int] = {}
        self._base: str | None = None  # of the frozen weights, where a strategy shards them

    def before_sharding(self, runner: Runner, model: nn.Module) -> None:
        """Take the fingerprint of the frozen weights while they are whole.

        Args:
            runner: The runner.
            model: The model, before any strategy wraps it.
        """
        if self.adapters_only:
            _check_base(runner, model)
        self._base = fingerprint(model)

    def before_run(self, runner: Runner) -> None:
        """Take frozen parameters out of the optimiser; watch that adapters are called."""
        network = _network(runner)
        if self.adapters_only and self._base is None:
            _check_base(runner, network)
        wrapper = getattr(runner, "optim_wrapper", None)  # a config still while testing
        if isinstance(wrapper, OptimWrapper) and not isinstance(runner, FlexibleRunner):
            for group in wrapper.optimizer.param_groups:
                group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
        for name, layer in adapters(network).items():
            layer.register_forward_pre_hook(self._counter(name))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Check the first iteration."""
        self._check(runner, "training")

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Check the first iteration."""
        self._check(runner, "evaluation")

    after_test_iter = after_val_iter

    def before_val_epoch(self, runner: Runner) -> None:
        """Count again: a layer may be called in training and read in evaluation."""
        self._calls.clear()

    before_test_epoch = before_val_epoch

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note what the adapters belong to; leave out what is frozen if the user wants that."""
        network = _network(runner)
        if self.adapters_only:
            for name in reloadable_names(network) if "state_dict" in checkpoint else ():
                checkpoint["state_dict"].pop(name, None)
            self._base = self._base or fingerprint(network)
        if self._base is not None:
            checkpoint["meta"]["lora_base"] = self._base

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Make a checkpoint fit, whether it was saved with adapters or without."""
        if not isinstance(runner, FlexibleRunner):
            adapt_state(_network(runner), checkpoint)
            return
        adapt_names(_network(runner), checkpoint.get("state_dict", {}))
        saved = checkpoint["meta"].get("lora_base")
        if self.adapters_only and saved is not None:
            check_base(str(self._base), saved)
        self._base = saved or self._base

    def _counter(self, name: str) -> Any:
        def count(_module: nn.Module, _inputs: Any) -> None:
            self._calls[name] = 1

        return count

    def _check(self, runner: Runner, stage: str) -> None:
        if len(self._calls) == len(names := list(adapters(_network(runner)))):
            return
        unused = [name for name in names if name not in self._calls]
        raise ConfigError(
            f"the adapter of {unused[0]} has no effect in {stage}: that layer's weight is read, not called",
            where="lora.target",
            fix=f"leave it out of the target (as are {len(unused)} of {len(names)})",
        )


def _network(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _check_base(runner: Runner, network: nn.Module) -> None:
    if any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise ConfigError(
            "adapters alone cannot be kept together with moving averages",
            where="lora.adapters_only",
            fix="leave out adapters_only or EMAHook",
        )
    scope = (runner.cfg.lora or {}).get("scope", "backbone")
    if not _is_pretrained(network.get_submodule(scope)):
        raise ConfigError(
            f"adapters alone are of no use: the {scope} starts from weights that no file holds",
            where="lora.adapters_only",
            fix=f"give the {scope} init_cfg=dict(type='Pretrained', checkpoint=...)",
        )
    lost = set(frozen_names(network)) - set(reloadable_names(network))
    if lost and getattr(getattr(runner, "strategy", None), "exclude_frozen_parameters", False):
        raise ConfigError(
            f"DeepSpeed leaves every frozen weight out of checkpoints, and no file holds {min(lost)}",
            where="lora.adapters_only",
            fix="give that part an init_cfg with a checkpoint, train it, or leave out adapters_only",
        )
