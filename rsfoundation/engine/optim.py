"""Optimisers: Lookahead, mixed precision on a CPU, and layer-wise learning rates for fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.peft import find_part
from rsfoundation.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Run the forward pass in bfloat16 autocast; bfloat16 has float32's range and needs no loss scaling."""

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Enter autocast for the forward pass of ``model``."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield


@OPTIMIZERS.register_module()
class Lookahead(torch.optim.Optimizer):
    """Another optimiser, whose weights every ``k`` steps move back towards slow ones (arXiv 1907.08610).

    ``slow += alpha * (fast - slow)``, then ``fast = slow``; slow weights start as the weights before the
    first step. They and the count of steps are in the state of each parameter: a resumed run continues.

    In a config: ``optimizer=dict(type='rsfoundation.Lookahead', base='AdamW', lr=4e-4, weight_decay=0.01)``.

    Args:
        params: Parameters, or groups of them.
        base: Name of the optimiser.
        k: Steps of the optimiser between two moves of the slow weights.
        alpha: How far slow weights move, above 0 and not above 1.
        **options: Of the optimiser.

    Raises:
        ConfigError: ``k`` or ``alpha`` is out of its range.
    """

    def __init__(
        self, params: Any, base: str = "AdamW", k: int = 5, alpha: float = 0.5, **options: Any
    ) -> None:
        if k < 1 or not 0 < alpha <= 1:
            raise ConfigError(
                f"k is {k} and alpha is {alpha}; k counts steps and alpha is above 0 and not above 1",
                where="optim_wrapper.optimizer",
                fix="k=5, alpha=0.5",
            )
        self.k, self.alpha = k, alpha
        self.base: torch.optim.Optimizer = OPTIMIZERS.build(dict(type=base, params=params, **options))
        super().__init__(self.base.param_groups, self.base.defaults)
        self._share()

    def _share(self) -> None:
        """Let the optimiser inside work on the same groups and state."""
        self.base.param_groups, self.base.state = self.param_groups, self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load groups and state; torch replaces both."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one step of the optimiser, and every ``k`` steps one of the slow weights.

        Args:
            closure: Computes the loss again.
        """
        trained = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        first = {p: p.clone() for p in trained if "slow" not in self.state[p]}
        loss = self.base.step(closure)
        for p in trained:
            state = self.state[p]
            if p in first:
                state["slow"], state["lookahead_steps"] = first[p], 0
            state["lookahead_steps"] += 1
            if state["lookahead_steps"] % self.k == 0:
                p.copy_(state["slow"].lerp_(p, self.alpha))
        return loss


# 'block1.0', 'layers.2.blocks.1', 'layers.0.NC.3', 'stages.1': an item of a list, or of a list inside it
_BLOCK = re.compile(r"(^|.*?\.)\w+\.\d+(\.(blocks|layers|NC)\.\d+)?(?=\.)")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Multiply learning rates by ``decay_rate`` once for each layer between a parameter and the heads.

    The rule of BEiT (Bao et al., 2021): with N blocks the last one gets ``decay_rate``, the first
    ``decay_rate**N``, what comes before it (stem, position table) ``decay_rate**(N+1)``, and what is
    outside the part 1. Blocks are found by name and counted in the order in which the part registers them.
    What is between two of them, such as a downsampling layer, counts with the one before.

    In a config: ``optim_wrapper=dict(constructor='rsfoundation.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.9, norm_decay_mult=0.0, ...), ...)``. ``decay_rate``, and ``part`` (the
    model's part that decays, ``'backbone'``) come next to mmengine's keys, which all hold, multiplied.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        rate = self.paramwise_cfg.get("decay_rate")
        if rate is None or not 0 < rate <= 1:
            raise ConfigError(
                f"the rate per layer must lie above 0 and not above 1, got {rate}",
                where="optim_wrapper.paramwise_cfg.decay_rate",
                fix="0.9 is usual for small backbones, 0.65 to 0.8 for ViT-B and ViT-L",
            )

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", is_dcn_module: Any = None
    ) -> None:
        """Add the groups of ``module``; see mmengine."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return  # called by itself for a part of the model
        scales = self._scales(module)
        for group in params:
            base: float = group.get("lr", self.optimizer_cfg["lr"])
            group["lr"] = base * scales.get(group["params"][0], 1.0)

    def _scales(self, model: nn.Module) -> dict[nn.Parameter, float]:
        name = self.paramwise_cfg.get("part", "backbone")
        part = find_part(model, name, where="optim_wrapper.paramwise_cfg.part")
        layers = layer_numbers([name for name, _ in part.named_parameters()])
        count = max(layers.values())
        return {
            parameter: self.paramwise_cfg["decay_rate"] ** (count + 1 - layers[name])
            for name, parameter in part.named_parameters()
        }


def layer_numbers(names: list[str]) -> dict[str, int]:
    """Number the layers that parameters belong to: 0 before the first block, then one number per block.

    Args:
        names: Names of all parameters of a backbone in the order of registration.

    Raises:
        ConfigError: No name has a block.
    """
    blocks: dict[str, int] = {}
    numbers, current = {}, 0
    for name in names:
        match = _BLOCK.match(name)
        if match is not None:
            current = blocks.setdefault(match[0], len(blocks) + 1)
        numbers[name] = current
    if not blocks:
        raise ConfigError(
            "no parameter of the part is in a numbered block, so there are no layers to count",
            where="optim_wrapper.paramwise_cfg.part",
            fix="name the backbone, or leave the constructor out",
        )
    return numbers
