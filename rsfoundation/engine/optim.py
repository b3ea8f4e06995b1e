"""Optimiser wrappers: mixed precision on CPU, and layer-wise learning rates for fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.peft import find_part
from rsfoundation.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Run the forward pass in bfloat16 autocast; bfloat16 has float32's range and needs no loss scaling."""

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Enter autocast for the forward pass of ``model``."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield


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
