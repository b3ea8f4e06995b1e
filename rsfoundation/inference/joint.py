"""Several heads on one backbone: the backbone sees every window once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.inference.model import WindowModel

_KEPT = 4  # inputs whose maps are kept: a window, both dates of a change head


class SharedBackbone(nn.Module):
    """A backbone that several networks use; for an input that it has just seen it returns the maps again.

    Networks prepare a window alike (mean, deviation, padding), so that their inputs are equal to the bit;
    a siamese network asks for both dates, a detector for one of them.

    Args:
        backbone: The backbone.

    Attributes:
        runs: How often it ran.
        asked: How often it was asked.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.runs = self.asked = 0
        self._seen: deque[tuple[Tensor, Any]] = deque(maxlen=_KEPT)

    def forward(self, x: Tensor) -> Any:
        """Return the maps of ``x``."""
        self.asked += 1
        for known, maps in self._seen:
            if known.shape == x.shape and torch.equal(known, x):
                return maps
        self.runs += 1
        maps = self.backbone(x)
        self._seen.append((x, maps))
        return maps

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("backbone"), name)


def share_backbone(models: Sequence[WindowModel]) -> SharedBackbone:
    """Let several models use one backbone.

    Args:
        models: Models whose backbones have the same layers and weights; their networks are changed.

    Returns:
        The backbone, which counts its runs.

    Raises:
        ConfigError: A model has no backbone, or the backbones differ.
    """
    first = _backbone(models[0])
    reference = first.state_dict()
    for model in models[1:]:
        other = _backbone(model).state_dict()
        odd = next(
            (
                name
                for name in reference.keys() | other.keys()
                if name not in reference
                or name not in other
                or reference[name].shape != other[name].shape
                or not torch.equal(reference[name], other[name])
            ),
            None,
        )
        if odd is not None:
            raise ConfigError(
                f"the backbones of two models differ, first in '{odd}': they cannot share a pass",
                where=model.checkpoint,
                fix="train the heads on one frozen backbone, or predict with one model at a time",
            )
    shared = SharedBackbone(first)
    for model in models:
        model.network.backbone = shared
    return shared


def _backbone(model: WindowModel) -> nn.Module:
    backbone = getattr(model.network, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ConfigError(
            "the model has no backbone of its own to share (test-time augmentation wraps it)",
            where=model.checkpoint,
            fix="predict with one model at a time",
        )
    return backbone
