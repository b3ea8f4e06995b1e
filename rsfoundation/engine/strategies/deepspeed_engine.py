"""A DeepSpeed engine as an mmengine model, and precision that detection heads survive."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine._strategy.deepspeed import MMDeepSpeedEngineWrapper
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module(name="rsfoundation.EngineWrapper")
class EngineWrapper(MMDeepSpeedEngineWrapper):
    """mmengine's wrapper, which also logs the norm of the gradients when they are clipped."""

    def step(self) -> None:
        """Step the engine."""
        self.model.step()
        norm = self.model.get_global_grad_norm() if self.model.gradient_clipping() else None
        if norm is not None and self.model.was_step_applied():
            MessageHub.get_current_instance().update_scalar("train/grad_norm", float(norm))


def autocast_forward(model: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    """Run ``model.forward`` under autocast, inside DeepSpeed, which turns an outer autocast off.

    Autocast also lets a model whose weights are in ``dtype`` take float32 images, and keeps losses and
    box arithmetic in float32.
    """
    inner = model.forward

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype=dtype):
            return inner(*args, **kwargs)

    model.forward = forward


@contextmanager
def keep_images_exact(model: torch.nn.Module) -> Iterator[None]:
    """Give data preprocessors their mean and scale back in float32 after DeepSpeed cast the model."""
    kept = [
        (module, name, buffer.clone())
        for module in model.modules()
        if isinstance(module, BaseDataPreprocessor)
        for name, buffer in module.named_buffers(recurse=False)
    ]
    yield
    for module, name, buffer in kept:
        module._buffers[name] = buffer.to(module._buffers[name].device)
