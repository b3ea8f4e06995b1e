"""Prompts in the loop: a frozen mask decoder of SAM must draw the same masks from both maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.distill.alignment import AlignmentLoss, FeaturePair
from rsfoundation.models.prompt.sam import SAM, sam_from_checkpoint
from rsfoundation.registry import MODELS

_SMALLEST, _LARGEST = 0.1, 0.6  # sides of automatic boxes, as shares of the image's
_GRID = 3  # automatic boxes of an evaluation, a side


@MODELS.register_module()
class PromptAlignment(AlignmentLoss):
    """Prompts in the loop: a frozen mask decoder of SAM must draw the same masks from both maps.

    The loss is binary cross entropy and Dice between the mask logits of teacher and student.
    Prompts are boxes, of the labels where the samples have some, else drawn at random, and one point in the
    middle of each for half of the prompts. The decoder is frozen and not part of the checkpoint.

    Args:
        checkpoint: File, link or name of a whole SAM; its mask decoder and prompt encoder are used.
        sam: Config of a SAM with random weights, where there is no checkpoint.
        seed: Seed of these weights.
        prompts: Prompts per image.
        weight: Weight of the loss.
        start: First step with this loss; before it the maps alone are aligned.

    Raises:
        ConfigError: Neither checkpoint nor ``sam`` is given, or both.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        sam: Mapping[str, Any] | None = None,
        seed: int = 0,
        prompts: int = 8,
        weight: float = 1.0,
        start: int = 0,
    ) -> None:
        super().__init__()
        if (checkpoint is None) == (sam is None):
            raise ConfigError("give one of checkpoint and sam", where="PromptAlignment")
        self.checkpoint, self.sam, self.seed = checkpoint, dict(sam or {}), seed
        self._outside: tuple[nn.Module, ...] = ()  # in a tuple: neither saved nor optimised
        self.prompts, self.weight, self.start = prompts, weight, start

    def load(self) -> None:
        """Load the decoder at the first call."""
        if self._outside:
            return
        if self.checkpoint is not None:
            whole = sam_from_checkpoint(self.checkpoint)
        else:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                whole = SAM(**self.sam)
        del whole.vision_encoder  # the maps come from teacher and student
        self._outside = (whole.eval().requires_grad_(False),)

    def forward(self, pair: FeaturePair) -> torch.Tensor:
        """Return the loss, a scalar; 0 before the first step."""
        if pair.step < self.start:
            return pair.student.sum() * 0
        boxes = self._training_boxes(pair)
        middles = bool(torch.rand(()) < 0.5)
        with torch.no_grad():
            wanted = self._decode(pair.teacher, pair, boxes, middles)
        found = self._decode(pair.student, pair, boxes, middles)
        truth, drawn = wanted.sigmoid(), found.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(found, truth)
        overlap = 2 * (truth * drawn).sum((-2, -1)) + 1
        dice = 1 - overlap / (truth.square().sum((-2, -1)) + drawn.square().sum((-2, -1)) + 1)
        return self.weight * (entropy + dice.mean())

    def _training_boxes(self, pair: FeaturePair) -> torch.Tensor:
        """Return boxes ``(N, P, 4)``: of the labels, repeated in a random order, else random ones."""
        count = len(pair.teacher)
        if pair.boxes is not None and all(len(boxes) for boxes in pair.boxes):
            chosen = [boxes[torch.randint(len(boxes), (self.prompts,))] for boxes in pair.boxes]
            return torch.stack(chosen).to(pair.teacher.device)
        size = pair.teacher.new_tensor([pair.image_size[1], pair.image_size[0]])
        drawn = torch.rand(2, count, self.prompts, 2).to(pair.teacher.device)
        sides = (_SMALLEST + (_LARGEST - _SMALLEST) * drawn[0]) * size
        corners = drawn[1] * (size - sides)
        return torch.cat([corners, corners + sides], 2)

    def _decode(
        self, maps: torch.Tensor, pair: FeaturePair, boxes: torch.Tensor, middles: bool
    ) -> torch.Tensor:
        """Return the mask logits ``(N, P, 4 h, 4 w)`` of a standardised map."""
        self.load()
        sam = self._outside[0].to(maps.device)
        points = ((boxes[..., :2] + boxes[..., 2:]) / 2)[:, :, None] if middles else None
        raw = maps * pair.deviation + pair.mean
        output = sam(
            input_points=points,
            input_boxes=boxes,
            image_embeddings=raw,
            multimask_output=False,
            image_size=pair.image_size,
        )
        return output.pred_masks[:, :, 0]

    @torch.no_grad()
    def box_iou(self, pair: FeaturePair) -> torch.Tensor:
        """Return for each image the mean IoU ``(N,)`` of the masks of both maps, for boxes.

        Args:
            pair: Of clean images; without labels the boxes are those of a fixed grid.
        """
        if pair.boxes is None or not all(len(boxes) for boxes in pair.boxes):
            height, width = pair.image_size
            rows = torch.arange(_GRID)
            y, x = torch.meshgrid(rows * height / _GRID, rows * width / _GRID, indexing="ij")
            grid = torch.stack([x, y, x + width / _GRID, y + height / _GRID], -1).flatten(0, 1).float()
            boxes = [grid.to(pair.teacher.device)] * len(pair.teacher)
        else:
            boxes = [one.to(pair.teacher.device) for one in pair.boxes]
        found = []
        for index, own in enumerate(boxes):
            masks = [
                self._decode(maps[index : index + 1], pair, own[None], False)[0] > 0
                for maps in (pair.teacher, pair.student)
            ]
            shared, either = (masks[0] & masks[1]).sum((1, 2)), (masks[0] | masks[1]).sum((1, 2))
            iou = torch.where(either > 0, shared / either.clamp(min=1), 1.0)  # both empty agree
            found.append(iou.mean())
        return torch.stack(found)
