"""Several heads on one backbone: the backbone sees every window once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.inference.model import WindowModel

_KEPT = 8  # images whose maps are kept at least: a window, both dates of a change head


class SharedBackbone(nn.Module):
    """A backbone that several networks use; for an image that it has just seen it returns the maps again.

    Networks prepare a window alike (mean, deviation, padding), so that their inputs are equal to the bit. A
    siamese network asks for both dates at once, a detector for one of them: images are looked up one by one,
    and those that are new pass through the backbone together.

    Args:
        backbone: The backbone; it returns a tuple of maps.

    Attributes:
        runs: How many images went through it.
        asked: For how many images it was asked.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.runs = self.asked = 0
        self._seen: deque[tuple[Tensor, tuple[Tensor, ...]]] = deque(maxlen=_KEPT)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of images ``(N, C, H, W)``."""
        if 2 * len(x) > (self._seen.maxlen or 0):
            self._seen = deque(self._seen, maxlen=4 * len(x))
        self.asked += len(x)
        found = [self._known(image) for image in x]
        new = [index for index, maps in enumerate(found) if maps is None]
        if new:
            self.runs += len(new)
            maps = tuple(self.backbone(x if len(new) == len(x) else x[new]))
            for place, index in enumerate(new):
                found[index] = tuple(part[place] for part in maps)
                self._seen.append((x[index], found[index] or ()))
        return tuple(torch.stack(parts) for parts in zip(*(maps or () for maps in found), strict=True))

    def _known(self, image: Tensor) -> tuple[Tensor, ...] | None:
        for known, maps in self._seen:
            if known.shape == image.shape and torch.equal(known, image):
                return maps
        return None

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
