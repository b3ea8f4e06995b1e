"""A student that learns the feature maps of a frozen teacher, as an ordinary training run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import CheckpointError, ConfigError, check_choice
from rsfoundation.models.distill.alignment import FeaturePair, same_grid, weighted_mean
from rsfoundation.models.distill.teachers import (
    CachedFeatures,
    FrozenTeacher,
    encode,
    encoder_config,
    preprocessing_of,
)
from rsfoundation.models.encoders.base import PlainEncoder
from rsfoundation.models.masked_image import bands_of_backbone
from rsfoundation.registry import MODELS

_EPS = 1e-6
_HASH_BYTES = 32  # of SHA-256


@MODELS.register_module()
class FeatureDistiller(BaseModel):
    """Aligns the last map of a backbone with that of a frozen teacher.

    The targets are standardised per channel by statistics of the training images, which the checkpoint keeps
    and ``rsf convert backbone`` folds into the student. The teacher is not part of the checkpoint; its hash
    is, so that a run cannot be resumed with another one.

    Args:
        backbone: Config of the student, any backbone; see :func:`encoder_config`.
        teacher: Config of the teacher: a backbone with ``init_cfg``, ``HuggingFaceEncoder``, or
            ``CachedFeatures``.
        losses: Configs of alignment losses; the gradients of their sum are used.
        adapter: Brings the student's map to the target and is dropped after training. ``linear``: a 1 x 1
            convolution. ``stages``: the sum of 1 x 1 convolutions of all maps of a pyramid
            (``out_indices=(0, 1, 2, 3)``), so that its fine stages learn, too. ``none``: the student's own
            map is the target's, and statistics are folded at export.
        corruption: Options of :class:`rsfoundation.models.distill.corruption.Corruption`; None for the clean
            view.
        resolutions: ``(step, side)`` pairs: images are resized to ``side`` pixels from that step on.
        teacher_seed: Seed of random weights of the teacher.
        data_preprocessor: Config of the preprocessor.
        init_cfg: MMEngine's.

    Raises:
        ConfigError: Channels differ without an adapter, or resolutions change under a cache.
    """

    target_mean: torch.Tensor
    target_deviation: torch.Tensor
    target_images: torch.Tensor
    teacher_hash: torch.Tensor
    steps: torch.Tensor

    def __init__(
        self,
        backbone: Mapping[str, Any],
        teacher: Mapping[str, Any],
        losses: Sequence[Mapping[str, Any]] = (dict(type="MapAlignment"),),
        adapter: str = "none",
        corruption: Mapping[str, Any] | None = None,
        resolutions: Sequence[Sequence[int]] = (),
        teacher_seed: int = 0,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(MODELS.build(dict(data_preprocessor)) if data_preprocessor else None, init_cfg)
        self.backbone = MODELS.build(encoder_config(backbone))
        self._teacher = FrozenTeacher(teacher, teacher_seed)
        frozen = self._teacher.network
        wide, own = int(frozen.out_channels[-1]), int(self.backbone.out_channels[-1])
        check_choice("adapter", adapter, ("none", "linear", "stages"), "model")
        if adapter == "none" and own != wide:
            raise ConfigError(
                f"the student's map has {own} channels, the teacher's {wide}, and adapter is {adapter!r}",
                where="model.adapter",
                fix="adapter='linear', or a student of the teacher's channels",
            )
        self.adapter: nn.Module = nn.Identity()
        self.stages: tuple[int, ...] = ()
        if adapter == "stages":
            channels = () if isinstance(self.backbone, PlainEncoder) else self.backbone.out_channels
            if len(channels) < 2:
                raise ConfigError(
                    "adapter 'stages' needs a backbone with stages, and the student returns one map",
                    where="model.backbone",
                    fix="model.backbone.out_indices=(0, 1, 2, 3), or adapter='linear'",
                )
            self.stages = tuple(range(len(channels)))
            self.adapter = StageFusion(channels, wide)
        if adapter == "linear":
            layer = nn.Conv2d(own, wide, 1)
            nn.init.dirac_(layer.weight)
            nn.init.constant_(layer.get_parameter("bias"), 0)
            self.adapter = layer
        self.losses: Any = nn.ModuleList(MODELS.build(with_our_scope(one)) for one in losses)
        self.resolutions = sorted((int(step), int(side)) for step, side in resolutions)
        self.corruption = None
        if corruption is not None:
            options = {"bands": bands_of_backbone(self.backbone), **corruption}
            self.corruption = MODELS.build(dict(type="rsfoundation.Corruption", **options))
        self.teacher_seed = teacher_seed
        if isinstance(frozen, CachedFeatures):
            self._check_cached()
        self.register_buffer("target_mean", torch.zeros(1, wide, 1, 1))
        self.register_buffer("target_deviation", torch.ones(1, wide, 1, 1))
        self.register_buffer("target_images", torch.tensor(0))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("teacher_hash", torch.zeros(_HASH_BYTES, dtype=torch.uint8))

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher, with its weights."""
        if not self.teacher_hash.any():
            network = self._teacher.load()
            found = self._teacher.hash
            if isinstance(network, CachedFeatures):
                found = network.check(self.teacher_seed, preprocessing_of(self.data_preprocessor))
            self.teacher_hash.copy_(torch.tensor(list(bytes.fromhex(found)), dtype=torch.uint8))
        return self._teacher.network

    def init_weights(self) -> None:
        """Load the teacher and what the losses need, then initialise the student."""
        _ = self.teacher
        for loss in self.losses:
            loss.load()
        super().init_weights()

    def _check_cached(self) -> None:
        inner = [name for loss in self.losses for name in loss.teacher_blocks]
        if self.resolutions or inner:
            raise ConfigError(
                "a cache holds the last map at one size: "
                + ("resolutions change the size" if self.resolutions else f"a loss needs block {inner[0]}"),
                where="model.teacher",
                fix="use the live teacher, or leave out resolutions and LevelAlignment",
            )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Refuse the statistics of another teacher, then load."""
        saved, _ = state_dict.get(f"{prefix}teacher_hash"), self.teacher
        if saved is not None and not torch.equal(saved.cpu(), self.teacher_hash.cpu()):
            raise CheckpointError(
                "the checkpoint was trained with another teacher: its weights have the hash "
                f"{bytes(saved.tolist()).hex()[:12]}, those of this config "
                f"{bytes(self.teacher_hash.tolist()).hex()[:12]}",
                where="model.teacher",
                fix="name the teacher of the run, or start anew from the backbone: "
                "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)",
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @torch.no_grad()
    def teach(
        self, images: torch.Tensor, samples: Sequence[BaseDataElement] | None
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Return the teacher's raw map ``(N, C, h, w)`` and those of inner blocks that losses need.

        Args:
            images: ``(N, bands, H, W)``, normalised.
            samples: Of the images; a cache finds features by their ``image_key``.
        """
        teacher = self.teacher
        if isinstance(teacher, CachedFeatures):
            keys = [sample.metainfo.get("image_key") for sample in samples or ()]
            if len(keys) != len(images) or None in keys:
                raise ConfigError(
                    "cached features are found by the key of an image, and the samples have none",
                    where="train_pipeline",
                    fix="put dict(type='rsfoundation.ImageKey') before PackSceneInputs",
                )
            return teacher(keys)[0].to(images.device), {}
        blocks = {index for loss in self.losses for index in loss.teacher_blocks}
        return encode(teacher.to(images.device), images, blocks)

    @torch.no_grad()
    def measure_targets(
        self, batches: Iterable[tuple[torch.Tensor, Sequence[BaseDataElement]]], images: int
    ) -> None:
        """Set the statistics of the targets.

        Args:
            batches: Preprocessed inputs and samples.
            images: Stop after so many.
        """
        total, squares, cells, seen = None, None, 0, 0
        for inputs, samples in batches:
            maps = self.teach(self._resized(inputs), samples)[0].double()
            sums, sums_of_squares = maps.sum((0, 2, 3)), maps.square().sum((0, 2, 3))
            total = sums if total is None else total + sums
            squares = sums_of_squares if squares is None else squares + sums_of_squares
            cells += maps.shape[0] * maps.shape[2] * maps.shape[3]
            seen += len(maps)
            if seen >= images:
                break
        if total is None or squares is None:
            raise ConfigError("there are no images to measure the targets on", where="train_dataloader")
        mean = total / cells
        variance = (squares / cells - mean.square()).clamp(min=0)
        self.target_mean.copy_(mean.view(1, -1, 1, 1))
        self.target_deviation.copy_(variance.sqrt().clamp(min=_EPS).view(1, -1, 1, 1))
        self.target_images.fill_(seen)

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        side = next((side for step, side in reversed(self.resolutions) if int(self.steps) >= step), None)
        if side is None or images.shape[-1] == side:
            return images
        return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)

    def pair_of(
        self,
        view: torch.Tensor,
        samples: Sequence[BaseDataElement] | None,
        target: tuple[torch.Tensor, dict[int, torch.Tensor]],
        hidden: torch.Tensor | None = None,
        scale: float = 1.0,
    ) -> FeaturePair:
        """Encode the student's view and put it next to the target.

        Args:
            view: ``(N, bands, H, W)``.
            samples: Of the images.
            target: Of :meth:`teach`.
            hidden: Pixels of the view that are hidden, ``(N, 1, H, W)`` of 0 and 1.
            scale: Pixels of the view per pixel of the samples.
        """
        if not int(self.target_images):
            raise ConfigError(
                "the targets have no statistics",
                where="custom_hooks",
                fix="custom_hooks = [dict(type='rsfoundation.TargetStatisticsHook')]",
            )
        raw, levels = target
        blocks = {index for loss in self.losses for index in loss.student_blocks}
        found, own_levels = encode(self.backbone, view, {*blocks, *self.stages})
        if self.stages:
            student = self.adapter([own_levels[index] for index in self.stages], raw.shape[2:])
        else:
            student = same_grid(self.adapter(found), raw.shape[2:], "FeatureDistiller")
        weight = valid_cells(samples, view, raw.shape[2:], scale)
        if hidden is not None and self.corruption is not None:
            share = F.interpolate(hidden, size=raw.shape[2:], mode="area")
            weight = weight * (1 + (self.corruption.masked_weight - 1) * share)
        return FeaturePair(
            (raw - self.target_mean) / self.target_deviation,
            student,
            weight,
            self.target_mean,
            self.target_deviation,
            levels,
            own_levels,
            (view.shape[2], view.shape[3]),
            boxes_of(samples, scale),
            int(self.steps),
        )

    def loss(
        self, images: torch.Tensor, samples: Sequence[BaseDataElement] | None = None
    ) -> dict[str, torch.Tensor]:
        """Return the losses, and the relative error of this batch.

        Args:
            images: ``(N, bands, H, W)``, normalised.
            samples: Of the images.
        """
        before = images.shape[-1]
        images = self._resized(images)
        scale = images.shape[-1] / before
        target, step = self.teach(images, samples), int(self.steps)
        view, hidden = (images, None) if self.corruption is None else self.corruption(images, step)
        pair = self.pair_of(view, samples, target, hidden, scale)
        named: dict[str, torch.Tensor] = {}
        for index, loss in enumerate(self.losses):
            named[f"loss_{index}_{type(loss).__name__}"] = loss(pair)
        error = relative_error(pair).detach()
        if self.corruption is not None and self.corruption.wants_clean_error(step):
            with torch.no_grad():
                self.backbone.eval()
                clean = relative_error(self.pair_of(images, samples, target, scale=scale))
                self.backbone.train()
            self.corruption.adapt(clean, error, step)
            named["clean_error"] = clean
        self.steps += 1
        return {**named, "relative_error": error}

    def predict(
        self, images: torch.Tensor, samples: Sequence[BaseDataElement] | None = None
    ) -> list[BaseDataElement]:
        """Return samples with raw ``teacher_map`` and ``student_map``, and with prompts ``prompt_iou``.

        Args:
            images: ``(N, bands, H, W)``, normalised.
            samples: Of the images.
        """
        images = self._resized(images)
        pair = self.pair_of(images, samples, self.teach(images, samples))
        found = list(samples or (BaseDataElement() for _ in images))
        prompts = next((loss for loss in self.losses if hasattr(loss, "box_iou")), None)
        overlaps = None if prompts is None else prompts.box_iou(pair)
        for index, sample in enumerate(found):
            sample.teacher_map = pair.teacher[index] * pair.deviation[0] + pair.mean[0]
            sample.student_map = pair.student[index] * pair.deviation[0] + pair.mean[0]
            if overlaps is not None:
                sample.prompt_iou = overlaps[index]
        return found

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the student's map of images ``(N, bands, H, W)``, without adapter and statistics."""
        return (encode(self.backbone, inputs)[0],)

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Return the student's map, the losses, or samples with both maps.

        Args:
            inputs: ``(N, bands, H, W)``, normalised.
            data_samples: One per image.
            mode: ``tensor``, ``loss`` or ``predict``.
        """
        if mode == "loss":
            return self.loss(inputs, data_samples)
        return self.predict(inputs, data_samples) if mode == "predict" else self.extract_feat(inputs)


class StageFusion(nn.Module):
    """Sum of 1 x 1 convolutions of maps that are brought to one grid before.

    Args:
        channels: Of each map.
        width: Channels of the sum.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(own, width, 1) for own in channels)

    def forward(self, maps: Sequence[torch.Tensor], grid: Sequence[int]) -> torch.Tensor:
        """Return a map ``(N, width, h, w)``.

        Args:
            maps: ``(N, C, H, W)`` each.
            grid: Rows and columns of the result.
        """
        pairs = zip(self.layers, maps, strict=True)
        parts = [layer(same_grid(one, grid, type(self).__name__)) for layer, one in pairs]
        return torch.stack(parts).sum(0)


def with_our_scope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of an alignment loss whose type is found in any default scope."""
    kind = str(config["type"])
    return {**config, "type": kind if "." in kind else f"rsfoundation.{kind}"}


def relative_error(pair: FeaturePair) -> torch.Tensor:
    """Return the mean absolute error in units of that of the constant channel means."""
    return weighted_mean((pair.student - pair.teacher).abs(), pair.weight) / weighted_mean(
        pair.teacher.abs(), pair.weight
    ).clamp(min=_EPS)


def valid_cells(
    samples: Sequence[BaseDataElement] | None, images: torch.Tensor, grid: Sequence[int], scale: float = 1.0
) -> torch.Tensor:
    """Return the share of each cell that is image and not padding, ``(N, 1, h, w)``.

    Args:
        samples: Their ``img_shape`` is the size before padding; all is image without.
        images: ``(N, bands, H, W)``.
        grid: Rows and columns of cells.
        scale: Pixels of the images per pixel of the samples.
    """
    valid = images.new_ones(len(images), 1, *images.shape[2:])
    for mask, sample in zip(valid, samples or (), strict=False):
        height, width = (
            round(side * scale) for side in sample.metainfo.get("img_shape", images.shape[2:])[:2]
        )
        mask[:, height:] = 0
        mask[:, :, width:] = 0
    return F.interpolate(valid, size=tuple(grid), mode="area")


def boxes_of(samples: Sequence[BaseDataElement] | None, scale: float) -> list[torch.Tensor] | None:
    """Return the boxes ``(P, 4)`` of the labels of each image; None where an image has no labels.

    Args:
        samples: Of the images.
        scale: Pixels of the images per pixel of the samples.
    """
    found = []
    for sample in samples or ():
        if "gt_instances" not in sample or "bboxes" not in sample.gt_instances:
            return None
        boxes = sample.gt_instances.bboxes
        found.append(getattr(boxes, "tensor", boxes).float() * scale)
    return found or None
