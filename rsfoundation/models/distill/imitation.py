"""Losses between a trained model and a smaller one of the same task: maps and pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError, check_choice
from rsfoundation.models.distill.alignment import weighted_mean
from rsfoundation.models.distill.feature_distiller import valid_cells
from rsfoundation.registry import MODELS

_EPS = 1e-6
_OUTSIDE = -1e4  # added to logits of padding


class Call(NamedTuple):
    """One call of a module: its positional arguments and what it returned."""

    inputs: tuple[Any, ...]
    output: Any


class ImitationBatch(NamedTuple):
    """What the losses compare.

    Attributes:
        student: Calls of the student's modules by name, with gradients.
        teacher: Calls of the teacher's modules by name.
        teacher_network: The teacher, for parts that depend on what the student found.
        images: ``(N, bands, H, W)``, normalised.
        samples: Of the images.
    """

    student: Mapping[str, Call]
    teacher: Mapping[str, Call]
    teacher_network: nn.Module
    images: torch.Tensor
    samples: Sequence[BaseDataElement] | None


class ImitationLoss(nn.Module):
    """A loss of the ``distill`` block of a config.

    Args:
        module: Dotted name of a module of the student.
        teacher_module: The teacher's module; the same name when not given.
        weight: Factor of the loss.

    Attributes:
        student_modules: Modules of the student whose calls it needs.
        teacher_modules: Modules of the teacher whose calls it needs.
    """

    def __init__(self, module: str, teacher_module: str | None = None, weight: float = 1.0) -> None:
        super().__init__()
        self.module, self.teacher_module, self.weight = module, teacher_module or module, float(weight)
        self.student_modules: tuple[str, ...] = (self.module,)
        self.teacher_modules: tuple[str, ...] = (self.teacher_module,)

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        """Check that the outputs of both modules mean the same.

        Args:
            student: The student.
            teacher: The teacher.

        Raises:
            ConfigError: They do not.
        """

    def forward(self, batch: ImitationBatch) -> torch.Tensor:
        """Return the loss, a scalar."""
        raise NotImplementedError


@MODELS.register_module()
class FeatureImitation(ImitationLoss):
    """The student's maps become those of the teacher, channel by channel.

    Args:
        module: As in :class:`ImitationLoss`; ``neck`` for detectors, ``decode_head.conv_seg`` for segmentors.
        teacher_module: Likewise.
        weight: Likewise.
        part: ``output`` of the module, or ``input``.
        loss: ``correlation``: one minus the correlation of each channel over the batch, which leaves scale
            and offset free (PKD, arXiv 2207.02039). ``channel``: divergence of the distributions of each
            channel over an image (CWD, arXiv 2011.13256).
        temperature: Of the distributions of ``channel``.
        channels: ``(student, teacher)`` channels of a 1 x 1 convolution per level between both, needed where
            they differ; it is dropped after training.
        levels: Number of levels that have such a convolution.
    """

    def __init__(
        self,
        module: str = "neck",
        teacher_module: str | None = None,
        weight: float = 1.0,
        part: str = "output",
        loss: str = "correlation",
        temperature: float = 1.0,
        channels: Sequence[int] | None = None,
        levels: int = 1,
    ) -> None:
        super().__init__(module, teacher_module, weight)
        check_choice("part", part, ("output", "input"), "FeatureImitation")
        check_choice("loss", loss, ("correlation", "channel"), "FeatureImitation")
        self.part, self.kind, self.temperature = part, loss, float(temperature)
        self.adapters: nn.ModuleList | None = None
        if channels is not None:
            pair = channels if isinstance(channels, Sequence) and not isinstance(channels, str) else ()
            if len(pair) != 2 or not all(isinstance(one, int) and one > 0 for one in pair):
                raise ConfigError(
                    f"channels={channels!r} is not a pair of numbers",
                    where="distill.losses: FeatureImitation.channels",
                    fix="channels=(student, teacher), as (128, 256): those of the map of each side",
                )
            own, other = pair  # without bias: both losses leave the offset of a channel free
            self.adapters = nn.ModuleList(nn.Conv2d(own, other, 1, bias=False) for _ in range(levels))

    def forward(self, batch: ImitationBatch) -> torch.Tensor:
        """Return the mean over levels.

        Raises:
            ConfigError: Levels, channels or sizes of both maps differ.
        """
        found, wanted = (self._levels(calls, name) for calls, name in self._sides(batch))
        self._refuse(len(found) != len(wanted), f"{len(found)} levels", f"{len(wanted)}")
        if self.adapters is not None:
            self._refuse(
                len(found) != len(self.adapters), f"{len(found)} levels", f"{len(self.adapters)} set"
            )
            for level, adapter in zip(found, self.adapters, strict=True):
                if level.shape[1] != adapter.in_channels:
                    raise ConfigError(
                        f"{self.module} of the student has {level.shape[1]} channels, "
                        f"not {adapter.in_channels}",
                        where="distill.losses: FeatureImitation.channels",
                        fix=f"channels=({level.shape[1]}, {adapter.out_channels})",
                    )
            found = [adapter(level) for adapter, level in zip(self.adapters, found, strict=True)]
        total = batch.images.new_zeros((), dtype=torch.float32)
        for own, other in zip(found, wanted, strict=True):
            self._refuse(own.shape[1] != other.shape[1], f"{own.shape[1]} channels", f"{other.shape[1]}")
            sizes = [" x ".join(map(str, one.shape[2:])) for one in (own, other)]
            self._refuse(own.shape[2:] != other.shape[2:], f"maps of {sizes[0]} cells", sizes[1])
            weight = valid_cells(batch.samples, batch.images, own.shape[2:]).float()
            compare = _correlation_loss if self.kind == "correlation" else self._channel_loss
            total = total + compare(own.float(), other.float(), weight)
        return self.weight * total / len(found)

    def _sides(self, batch: ImitationBatch) -> tuple[tuple[Mapping[str, Call], str], ...]:
        return (batch.student, self.module), (batch.teacher, self.teacher_module)

    def _levels(self, calls: Mapping[str, Call], name: str) -> list[torch.Tensor]:
        value = calls[name].output if self.part == "output" else calls[name].inputs[0]
        return [value] if isinstance(value, torch.Tensor) else list(value)

    def _refuse(self, wrong: bool, own: str, other: str) -> None:
        if wrong:
            raise ConfigError(
                f"{self.module} of the student has {own}, {self.teacher_module} of the teacher {other}",
                where="distill.losses: FeatureImitation",
                fix="where channels differ: channels=(student, teacher), levels=N; where strides or levels "
                "differ, name other modules: module, teacher_module",
            )

    def _channel_loss(self, own: torch.Tensor, other: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        outside = weight.log().clamp(min=_OUTSIDE).flatten(2)
        logs = [(one.flatten(2) / self.temperature + outside).log_softmax(-1) for one in (own, other)]
        divergence = F.kl_div(logs[0], logs[1], reduction="none", log_target=True).sum(-1).mean()
        return self.temperature**2 * divergence


def _correlation_loss(own: torch.Tensor, other: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    first, second = (_standardised(one, weight) for one in (own, other))
    return weighted_mean((first - second).square(), weight) / 2


def _standardised(maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return maps ``(N, C, h, w)`` with mean 0 and deviation 1 per channel over the weighted cells."""
    total = weight.sum().clamp(min=_EPS)
    centred = maps - (maps * weight).sum((0, 2, 3), keepdim=True) / total
    deviation = ((centred.square() * weight).sum((0, 2, 3), keepdim=True) / total + _EPS).sqrt()
    return centred / deviation


@MODELS.register_module()
class PixelImitation(ImitationLoss):
    """Class distribution of each labelled pixel: divergence from the teacher's.

    Logits of one channel, as change heads may have, count as those of the second of two classes. Maps of
    different strides are compared on the student's grid.

    Args:
        module: The student's classifier, whose output are the logits.
        teacher_module: The teacher's; the same name when not given.
        weight: Factor of the loss.
        temperature: Divides both logits; the loss is multiplied by its square (arXiv 1503.02531).
        ignore_index: Label of pixels that do not count.
    """

    def __init__(
        self,
        module: str = "decode_head.conv_seg",
        teacher_module: str | None = None,
        weight: float = 1.0,
        temperature: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(module, teacher_module, weight)
        self.temperature, self.ignore_index = float(temperature), ignore_index

    def forward(self, batch: ImitationBatch) -> torch.Tensor:
        """Return the loss, a scalar.

        Raises:
            ConfigError: The numbers of classes differ.
        """
        own = _two_classes(batch.student[self.module].output.float())
        other = _two_classes(batch.teacher[self.teacher_module].output.float())
        if own.shape[1] != other.shape[1]:
            raise ConfigError(
                f"the student predicts {own.shape[1]} classes, the teacher {other.shape[1]}",
                where="distill.losses: PixelImitation",
                fix="name both classifiers: module, teacher_module; or train a teacher on these classes",
            )
        if own.shape[2:] != other.shape[2:]:
            other = F.interpolate(other, size=own.shape[2:], mode="bilinear", align_corners=False)
        logs = [(one / self.temperature).log_softmax(1) for one in (own, other)]
        divergence = F.kl_div(logs[0], logs[1], reduction="none", log_target=True).sum(1, keepdim=True)
        return self.weight * self.temperature**2 * weighted_mean(divergence, self._labelled(batch, own))

    def _labelled(self, batch: ImitationBatch, logits: torch.Tensor) -> torch.Tensor:
        """Return the share of each cell that is labelled, ``(N, 1, h, w)``."""
        labels = [sample.gt_sem_seg.data for sample in batch.samples or () if "gt_sem_seg" in sample]
        if len(labels) != len(logits):
            return valid_cells(batch.samples, batch.images, logits.shape[2:]).float()
        known = (torch.stack(labels).to(logits.device) != self.ignore_index).float()
        return F.interpolate(known, size=logits.shape[2:], mode="area")


def _two_classes(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], 1)
