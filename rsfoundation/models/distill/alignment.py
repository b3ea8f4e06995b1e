"""Losses between the map of a teacher and that of a student, both in standardised units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError, check_choice
from rsfoundation.registry import MODELS

_EPS = 1e-6


class FeaturePair(NamedTuple):
    """What the losses compare.

    Attributes:
        teacher: Standardised map of the teacher, ``(N, C, h, w)``.
        student: Map of the student in the same units and of the same shape.
        weight: Weight of each cell, ``(N, 1, h, w)``: 0 where the image was padded, more where it was hidden.
        mean: Of each channel of the teacher, ``(1, C, 1, 1)``; with ``deviation`` it gives raw maps.
        deviation: Likewise.
        teacher_levels: Maps of inner blocks by number.
        student_levels: Likewise.
        image_size: Height and width of the student's input.
        boxes: Of the labels of each image ``(P, 4)`` in pixels of the input; None without labels.
        step: Training steps so far.
    """

    teacher: torch.Tensor
    student: torch.Tensor
    weight: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor
    teacher_levels: Mapping[int, torch.Tensor]
    student_levels: Mapping[int, torch.Tensor]
    image_size: tuple[int, int]
    boxes: Sequence[torch.Tensor] | None
    step: int


class AlignmentLoss(nn.Module):
    """A loss of :class:`rsfoundation.models.distill.feature_distiller.FeatureDistiller`.

    Attributes:
        teacher_blocks: Inner blocks of the teacher whose maps it needs.
        student_blocks: Inner blocks of the student whose maps it needs.
    """

    teacher_blocks: tuple[int, ...] = ()
    student_blocks: tuple[int, ...] = ()

    def load(self) -> None:
        """Load weights that the loss needs and that are not trained."""

    def forward(self, pair: FeaturePair) -> torch.Tensor:
        """Return the loss, a scalar."""
        raise NotImplementedError


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the mean over cells of positive weight.

    Args:
        values: ``(N, C, h, w)``; the mean over channels is taken first.
        weight: ``(N, 1, h, w)``.
    """
    return (values.mean(1, keepdim=True) * weight).sum() / weight.sum().clamp(min=_EPS)


@MODELS.register_module()
class MapAlignment(AlignmentLoss):
    """Distance of the maps, direction of the cells, and how cells resemble each other.

    Args:
        loss: ``smooth_l1`` or ``l1``, on standardised channels.
        cosine: Weight of one minus the cosine similarity of each cell.
        relation: Weight of the mean difference of the cosine similarities between cells of an image
            (relational distillation, arXiv 1904.05068), on ``cells`` random cells.
        boundary: Extra weight of cells where the teacher's map changes most, 0 to 1 within an image.
        cells: Cells of the relational term.
    """

    def __init__(
        self,
        loss: str = "smooth_l1",
        cosine: float = 1.0,
        relation: float = 0.0,
        boundary: float = 0.0,
        cells: int = 256,
    ) -> None:
        super().__init__()
        check_choice("loss", loss, ("smooth_l1", "l1"), "MapAlignment")
        self.distance = F.smooth_l1_loss if loss == "smooth_l1" else F.l1_loss
        self.cosine, self.relation, self.boundary, self.cells = cosine, relation, boundary, cells

    def forward(self, pair: FeaturePair) -> torch.Tensor:
        """Return the loss, a scalar."""
        teacher, student, weight = pair.teacher, pair.student, pair.weight
        if self.boundary:
            weight = weight * (1 + self.boundary * boundary_energy(teacher))
        total = weighted_mean(self.distance(student, teacher, reduction="none"), weight)
        if self.cosine:
            similar = F.cosine_similarity(student, teacher, dim=1, eps=_EPS)[:, None]
            total = total + self.cosine * weighted_mean(1 - similar, weight)
        if self.relation:
            total = total + self.relation * self._relations(teacher, student, weight)
        return total

    def _relations(self, teacher: torch.Tensor, student: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        total = teacher.shape[2] * teacher.shape[3]
        chosen = torch.randperm(total)[: self.cells].to(teacher.device)
        kept = [F.normalize(one.flatten(2)[:, :, chosen], dim=1, eps=_EPS) for one in (teacher, student)]
        wanted, found = (one.transpose(1, 2) @ one for one in kept)
        valid = (weight.flatten(2)[:, 0, chosen] > 0).float()
        both = valid[:, :, None] * valid[:, None]
        return ((wanted - found).abs() * both).sum() / both.sum().clamp(min=1)


def boundary_energy(maps: torch.Tensor) -> torch.Tensor:
    """Return how much a map changes at each cell, from 0 to 1 within an image.

    Args:
        maps: ``(N, C, h, w)``.

    Returns:
        ``(N, 1, h, w)``.
    """
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    energy = (across.square() + down.square()).mean(1, keepdim=True).sqrt()
    return energy / energy.amax((2, 3), keepdim=True).clamp(min=_EPS)


@MODELS.register_module()
class LevelAlignment(AlignmentLoss):
    """Maps of inner blocks, through a 1 x 1 convolution and a norm that are dropped after training (FitNets).

    Args:
        pairs: ``(student block, teacher block)``, counted from 0; stages of a pyramid likewise.
        student_channels: Channels of the student's blocks, one number or one per pair.
        teacher_channels: Channels of the teacher's blocks likewise.
        weight: Weight at the first step.
        decay_steps: Steps after which the weight has fallen to 0 linearly; 0 keeps it.
    """

    def __init__(
        self,
        pairs: Sequence[Sequence[int]],
        student_channels: int | Sequence[int],
        teacher_channels: int | Sequence[int],
        weight: float = 0.25,
        decay_steps: int = 0,
    ) -> None:
        super().__init__()
        self.pairs = tuple((int(student), int(teacher)) for student, teacher in pairs)
        if not self.pairs:
            raise ConfigError("pairs is empty", where="LevelAlignment.pairs", fix="pairs=[(5, 3), (11, 6)]")
        self.student_blocks = tuple(student for student, _ in self.pairs)
        self.teacher_blocks = tuple(teacher for _, teacher in self.pairs)
        widths = zip(
            _of_each(student_channels, len(self.pairs)),
            _of_each(teacher_channels, len(self.pairs)),
            strict=True,
        )
        self.adapters = nn.ModuleList(nn.Conv2d(narrow, wide, 1) for narrow, wide in widths)
        self.weight, self.decay_steps = weight, decay_steps

    def forward(self, pair: FeaturePair) -> torch.Tensor:
        """Return the loss, a scalar; both maps are normalised over the channels of a cell."""
        rest = max(0.0, 1 - pair.step / self.decay_steps) if self.decay_steps else 1.0
        total = pair.student.new_zeros(())
        for adapter, (student, teacher) in zip(self.adapters, self.pairs, strict=True):
            wanted = normalised_cells(pair.teacher_levels[teacher])
            found = same_grid(adapter(pair.student_levels[student]), wanted.shape[2:], "LevelAlignment")
            weight = F.adaptive_avg_pool2d(pair.weight, (wanted.shape[2], wanted.shape[3]))
            total = total + weighted_mean((normalised_cells(found) - wanted).square(), weight)
        return self.weight * rest * total / len(self.pairs)


def _of_each(value: int | Sequence[int], count: int) -> list[int]:
    return [value] * count if isinstance(value, int) else list(value)


def normalised_cells(maps: torch.Tensor) -> torch.Tensor:
    """Return a map ``(N, C, h, w)`` with mean 0 and variance 1 over the channels of each cell."""
    return F.layer_norm(maps.permute(0, 2, 3, 1), maps.shape[1:2], eps=_EPS).permute(0, 3, 1, 2)


def same_grid(maps: torch.Tensor, grid: Sequence[int], owner: str) -> torch.Tensor:
    """Bring a map to another grid: by the mean of whole cells, or bilinearly to a multiple of its own.

    Args:
        maps: ``(N, C, h, w)``.
        grid: Rows and columns that are wanted.
        owner: For the error.

    Raises:
        ConfigError: Neither grid is a multiple of the other.
    """
    rows, columns = maps.shape[2:]
    if (rows, columns) == tuple(grid):
        return maps
    if rows % grid[0] == 0 and columns % grid[1] == 0:
        return F.avg_pool2d(maps, (rows // grid[0], columns // grid[1]))
    if grid[0] % rows == 0 and grid[1] % columns == 0:
        return F.interpolate(maps, size=tuple(grid), mode="bilinear", align_corners=False)
    raise ConfigError(
        f"the grids do not divide: the student has {rows} x {columns} cells, "
        f"the teacher {grid[0]} x {grid[1]}",
        where=f"{owner}: model.backbone and model.teacher",
        fix="choose strides that divide each other, or images whose sides both strides divide",
    )
