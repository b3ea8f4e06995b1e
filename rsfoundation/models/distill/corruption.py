"""Noise and masking of the student's view, adapted to how well the student copes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.masked_image import random_mask
from rsfoundation.registry import MODELS

_RAISE, _LOWER, _MOST = 1.1, 0.9, 2.0
_SMOOTHING = 0.95  # of the errors, per training step


@MODELS.register_module()
class Corruption(nn.Module):
    """Adds Gaussian noise to normalised pixels and hides blocks of them by a learned colour.

    Both rise from 0 to their values over the first steps. With ``adaptive`` they are raised by 10 % when the
    error of the clean view has not improved for ``patience`` steps, and lowered by 10 % when the error of the
    corrupted view exceeds it by more than the share ``gap``. The state is in the checkpoint.

    Args:
        bands: Bands of the images.
        noise: Deviation of the noise, in normalised units.
        mask: Share of the blocks that are hidden.
        block: Side of a block in pixels.
        ramp: Steps until both have their values.
        fade: ``(first, last)`` step between which both fall to 0, so that a run ends on clean images; None
            keeps them to the end.
        adaptive: Whether they are adapted.
        patience: Steps without an improvement of the clean error before they are raised.
        gap: By how much the error of the corrupted view may exceed that of the clean one, as a share of it.
        masked_weight: Weight of the loss on hidden cells.
        interval: Steps between two measurements of the clean view, which cost a forward pass each.

    Raises:
        ConfigError: The mask hides everything, or ``fade`` ends before it begins.
    """

    level: torch.Tensor
    clean: torch.Tensor
    corrupted: torch.Tensor
    best: torch.Tensor
    best_step: torch.Tensor

    def __init__(
        self,
        bands: int = 3,
        noise: float = 0.2,
        mask: float = 0.2,
        block: int = 32,
        ramp: int = 0,
        fade: Sequence[int] | None = None,
        adaptive: bool = True,
        patience: int = 500,
        gap: float = 0.15,
        masked_weight: float = 1.5,
        interval: int = 10,
    ) -> None:
        super().__init__()
        if not 0 <= mask < 1 or noise < 0:
            raise ConfigError(
                f"noise is {noise} and mask is {mask}", where="model.corruption", fix="noise=0.2, mask=0.2"
            )
        pair = isinstance(fade, Sequence) and len(fade) == 2
        if fade is not None and not (pair and 0 <= fade[0] < fade[1]):
            raise ConfigError(
                f"fade is {fade}", where="model.corruption.fade", fix="fade=(first, last) with first < last"
            )
        self.noise, self.mask, self.block, self.ramp, self.fade = noise, mask, block, ramp, fade
        self.adaptive, self.patience, self.gap = adaptive, patience, gap
        self.masked_weight, self.interval = masked_weight, interval
        self.colour = nn.Parameter(torch.zeros(1, bands, 1, 1))
        for name, value in (("level", 1.0), ("clean", 0.0), ("corrupted", 0.0), ("best", float("inf"))):
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("best_step", torch.tensor(0))

    def forward(self, images: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the corrupted images and which pixels are hidden, ``(N, 1, H, W)`` of 0 and 1.

        Args:
            images: ``(N, bands, H, W)``, normalised.
            step: Training steps so far.
        """
        strength = self.strength(step)
        count, _, height, width = images.shape
        hidden = images.new_zeros(count, 1, height, width)
        view = images
        if self.noise * strength:
            view = view + self.noise * strength * torch.randn_like(images)
        if self.mask * strength:
            grid = (-(-height // self.block), -(-width // self.block))
            share = min(0.75, self.mask * strength)
            chosen = random_mask(count, grid, share)[:, None].to(images)
            hidden = F.interpolate(chosen, scale_factor=self.block)[:, :, :height, :width]
        # the colour takes part without masking too: every parameter has a gradient
        return view * (1 - hidden) + self.colour * hidden, hidden

    def strength(self, step: int) -> float:
        """Return the factor of noise and masking at a step."""
        found = float(self.level) * (min(1.0, (step + 1) / self.ramp) if self.ramp else 1.0)
        if self.fade is None:
            return found
        first, last = self.fade
        return found * min(1.0, max(0.0, (last - step) / (last - first)))

    def wants_clean_error(self, step: int) -> bool:
        """Say whether the error of the clean view is to be measured at this step."""
        return self.adaptive and step % self.interval == 0

    @torch.no_grad()
    def adapt(self, clean: torch.Tensor, corrupted: torch.Tensor, step: int) -> None:
        """Take the relative errors of both views and change the strength.

        Args:
            clean: Of the clean view.
            corrupted: Of the corrupted view.
            step: Training steps so far.
        """
        rest = _SMOOTHING**self.interval
        for kept, value in ((self.clean, clean), (self.corrupted, corrupted)):
            kept.copy_(value if float(kept) == 0 else rest * kept + (1 - rest) * value)
        if float(self.clean) < float(self.best):
            self.best.copy_(self.clean)
            self.best_step.fill_(step)
        if float(self.corrupted) > (1 + self.gap) * float(self.clean):
            self.level.mul_(_LOWER)
        elif step - int(self.best_step) >= self.patience:
            self.level.mul_(_RAISE).clamp_(max=_MOST)
            self.best_step.fill_(step)
