"""Losses between a trained detector and a smaller one: scores and boxes of dense heads and of regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import reduce_mean
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.distill.feature_distiller import valid_cells
from rsfoundation.models.distill.imitation import ImitationBatch, ImitationLoss
from rsfoundation.registry import MODELS

_PARALLELOGRAM = 6  # values of MidpointOffsetCoder
_BETA = 1 / 9  # where the distance of offsets becomes linear, as in the published RPN
_CERTAIN = 0.1  # teacher scores below it do not count as an object when losses are averaged


class _DenseImitation(ImitationLoss):
    """A loss on the class scores and boxes of a dense head, which returns both as lists of levels."""

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        """Compare classes, anchors per cell and strides; see :class:`ImitationLoss`."""
        own: Any = student.get_submodule(self.module)
        other: Any = teacher.get_submodule(self.teacher_module)
        for head, name in ((own, self.module), (other, self.teacher_module)):
            if not getattr(head, "use_sigmoid_cls", False):
                raise ConfigError(
                    f"{name} is a {type(head).__name__}, which has no sigmoid scores per cell",
                    where=f"distill.losses: {type(self).__name__}",
                    fix="name a dense head: bbox_head, rpn_head, bbox_head_init, bbox_head_refine.0",
                )
        for what, value in (
            ("classes", lambda head: head.cls_out_channels),
            ("anchors per cell", _anchors_per_cell),
            ("strides", lambda head: [tuple(stride) for stride in head.prior_generator.strides]),
        ):
            self._compare(what, value(own), value(other))

    def _compare(self, what: str, own: Any, other: Any) -> None:
        if own != other:
            raise ConfigError(
                f"{what} of {self.module} differ: the student has {own}, the teacher {other}",
                where=f"distill.losses: {type(self).__name__}",
                fix="train a teacher with the same head, or leave this loss out: FeatureImitation may remain",
            )

    def _scores(self, batch: ImitationBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits of student and teacher ``(N, cells, anchors, classes)``, and the cells' weights."""
        head: Any = batch.teacher_network.get_submodule(self.teacher_module)
        count = _anchors_per_cell(head)
        own, other = batch.student[self.module].output[0], batch.teacher[self.teacher_module].output[0]
        weights = [valid_cells(batch.samples, batch.images, one.shape[2:]).flatten(2)[:, 0] for one in own]
        return _by_cell(own, count), _by_cell(other, count), torch.cat(weights, 1)[:, :, None]


def _anchors_per_cell(head: Any) -> int:
    return int(head.prior_generator.num_base_priors[0])


def _by_cell(levels: Sequence[torch.Tensor], anchors: int) -> torch.Tensor:
    """Return maps of levels ``(N, anchors * values, h, w)`` as ``(N, cells, anchors, values)`` in float32."""
    flat = [one.float().permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (anchors, -1)) for one in levels]
    return torch.cat(flat, 1)


def _mean_over_ranks(count: torch.Tensor) -> torch.Tensor:
    return reduce_mean(count.detach()).clamp(min=1)


@MODELS.register_module()
class ClassImitation(_DenseImitation):
    """Class scores of a dense head: cross entropy with the teacher's, weighted by how far both are apart.

    The weight is that of the quality focal loss (arXiv 2006.04388): cells where both agree, nearly all of
    them background, count little. The sum is divided by the number of objects that the teacher sees.

    Args:
        module: As in :class:`ImitationLoss`.
        teacher_module: Likewise.
        weight: Likewise.
        power: Of the distance of the scores.
    """

    def __init__(
        self,
        module: str = "bbox_head",
        teacher_module: str | None = None,
        weight: float = 1.0,
        power: float = 2.0,
    ) -> None:
        super().__init__(module, teacher_module, weight)
        self.power = float(power)

    def forward(self, batch: ImitationBatch) -> torch.Tensor:
        """Return the loss, a scalar."""
        own, other, valid = self._scores(batch)
        wanted = other.sigmoid()
        apart = (own.sigmoid() - wanted).abs().pow(self.power)
        loss = F.binary_cross_entropy_with_logits(own, wanted, reduction="none") * apart
        best = wanted.amax(-1)
        objects = (best * (best > _CERTAIN) * valid).sum()
        return self.weight * (loss.sum(-1) * valid).sum() / _mean_over_ranks(objects)


@MODELS.register_module()
class BoxImitation(_DenseImitation):
    """Boxes of a dense head where the teacher is sure, compared as Gaussians, so that angles have no jump.

    The oriented RPN's coder, which makes the box of a parallelogram, has no gradient; its six offsets are
    compared as they are.

    Args:
        module: As in :class:`ImitationLoss`; a head whose anchors do not depend on other boxes.
        teacher_module: Likewise.
        weight: Likewise.
        min_score: Boxes of a lower best score of the teacher do not count; that of others is their weight.
    """

    def __init__(
        self,
        module: str = "bbox_head",
        teacher_module: str | None = None,
        weight: float = 1.0,
        min_score: float = 0.3,
    ) -> None:
        super().__init__(module, teacher_module, weight)
        self.min_score = float(min_score)
        self.compare: Any = MODELS.build(dict(type="rsfoundation.SymmetricKLDLoss"))

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        """Compare anchors and box coders as well; see :class:`ImitationLoss`."""
        super().check(student, teacher)
        own: Any = student.get_submodule(self.module)
        other: Any = teacher.get_submodule(self.teacher_module)
        for head in (own, other):
            if not len(getattr(head.prior_generator, "base_anchors", ())):
                raise ConfigError(
                    f"{type(head).__name__} has no fixed anchors: boxes of two models are not comparable",
                    where="distill.losses: BoxImitation",
                    fix="leave it out, or name the first stage: module='bbox_head_init'",
                )
        same = [one.prior_generator.base_anchors for one in (own, other)]
        self._compare("anchors", *([get_box_tensor(level).tolist() for level in one] for one in same))
        self._compare("box coder", *(_coder(one.bbox_coder) for one in (own, other)))

    def forward(self, batch: ImitationBatch) -> torch.Tensor:
        """Return the loss, a scalar."""
        head: Any = batch.teacher_network.get_submodule(self.teacher_module)
        _, scores, valid = self._scores(batch)
        outputs = batch.student[self.module].output[1], batch.teacher[self.teacher_module].output[1]
        own, other = (_by_cell(one, _anchors_per_cell(head)).flatten(1, 2) for one in outputs)
        sure = scores.sigmoid().amax(-1) * (valid > 0)
        sure = (sure * (sure >= self.min_score)).flatten(1)
        image, anchor = sure.nonzero(as_tuple=True)
        chosen, own, other = sure[image, anchor], own[image, anchor], other[image, anchor]
        count = _mean_over_ranks(chosen.sum())
        if own.shape[-1] == _PARALLELOGRAM:
            apart = F.smooth_l1_loss(own, other, reduction="none", beta=_BETA).sum(-1)
            return self.weight * (apart * chosen).sum() / count
        sizes = [tuple(one.shape[2:]) for one in outputs[0]]
        levels = head.prior_generator.grid_priors(sizes, device=own.device)
        priors = torch.cat([get_box_tensor(level) for level in levels])[anchor]
        boxes = [_decoded(head.bbox_coder, priors, one) for one in (own, other)]
        loss = self.compare(*boxes, weight=chosen, avg_factor=float(count))
        return self.weight * loss


def _coder(coder: Any) -> dict[str, Any]:
    values = {key: value for key, value in vars(coder).items() if not key.startswith("_")}
    return {"type": type(coder).__name__, **values}


def _decoded(coder: Any, priors: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """Return boxes ``(n, 5)`` from deltas on priors; upright ones get the angle 0."""
    if not len(priors):
        return deltas.new_zeros(0, 5) + deltas.sum() * 0
    boxes = get_box_tensor(coder.decode(priors, deltas))
    if boxes.shape[-1] == 5:
        return boxes
    first, last = boxes[:, :2], boxes[:, 2:]
    return torch.cat([(first + last) / 2, last - first, torch.zeros_like(first[:, :1])], 1)


@MODELS.register_module()
class RegionImitation(ImitationLoss):
    """Classes and boxes of a two-stage detector: the teacher's head is run on the student's proposals.

    Args:
        module: Name of the head on regions.
        neck: Module of the teacher whose maps its head reads.
        weight: Factor of the loss.
        temperature: Of the class distributions.
        box_weight: Factor of the boxes within the loss.
        min_score: Boxes count where the teacher's probability of any object is as high.
    """

    def __init__(
        self,
        module: str = "roi_head",
        neck: str = "neck",
        weight: float = 1.0,
        temperature: float = 1.0,
        box_weight: float = 1.0,
        min_score: float = 0.3,
    ) -> None:
        super().__init__(module, None, weight)
        self.neck, self.temperature = neck, float(temperature)
        self.box_weight, self.min_score = float(box_weight), float(min_score)
        self.student_modules = (f"{module}.bbox_roi_extractor", f"{module}.bbox_head")
        self.teacher_modules = (neck,)
        self.compare: Any = MODELS.build(dict(type="rsfoundation.SymmetricKLDLoss"))

    def check(self, student: nn.Module, teacher: nn.Module) -> None:
        """Compare classes and box coders of both heads; see :class:`ImitationLoss`."""
        name = f"{self.module}.bbox_head"
        own, other = (one.get_submodule(name) for one in (student, teacher))
        for what, value in (
            ("classes", lambda head: head.num_classes),
            ("boxes per region", lambda head: 1 if head.reg_class_agnostic else head.num_classes),
            ("box coder", lambda head: _coder(head.bbox_coder)),
        ):
            if value(own) != value(other):
                raise ConfigError(
                    f"{what} of {name} differ: the student has {value(own)}, the teacher {value(other)}",
                    where="distill.losses: RegionImitation",
                    fix="train a teacher with the same head, or leave this loss out",
                )

    def forward(self, batch: ImitationBatch) -> torch.Tensor:
        """Return the loss, a scalar."""
        regions = batch.student[self.student_modules[0]].inputs[1]
        own_classes, own_deltas = batch.student[self.student_modules[1]].output[:2]
        teacher: Any = batch.teacher_network.get_submodule(self.module)
        head = teacher.bbox_head
        with torch.no_grad():
            maps = batch.teacher[self.neck].output[: teacher.bbox_roi_extractor.num_inputs]
            classes, deltas = head(teacher.bbox_roi_extractor(maps, regions))[:2]
        logs = [(one.float() / self.temperature).log_softmax(-1) for one in (own_classes, classes)]
        divergence = F.kl_div(logs[0], logs[1], reduction="none", log_target=True).sum(-1).mean()
        found = classes.float().softmax(-1)
        sure = 1 - found[:, -1]
        chosen = sure >= self.min_score
        size = head.bbox_coder.encode_size
        both = [one.float().view(len(regions), -1, size)[chosen] for one in (own_deltas, deltas)]
        if not head.reg_class_agnostic:
            best = found[chosen, :-1].argmax(-1)
            both = [one[torch.arange(len(best), device=best.device), best] for one in both]
        boxes = [_decoded(head.bbox_coder, regions[chosen, 1:], one.flatten(1)) for one in both]
        weights = sure[chosen]
        box = self.compare(*boxes, weight=weights, avg_factor=float(_mean_over_ranks(weights.sum())))
        return self.weight * (self.temperature**2 * divergence + self.box_weight * box)
