"""A trained model ready to predict windows; several models that share one backbone pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import Classes, PredictsScenes, RunRequest, Task, require
from rsfoundation.engine.checkpointing.find import config_of_checkpoint, find_checkpoint, read_saved
from rsfoundation.engine.config import build_task, checkpoint_classes
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.model_builder import (
    inference_model,
    suppresses_across_classes,
    with_test_time_augmentation,
)
from rsfoundation.engine.resolve_config import RunOptions, loading_of, resolve_config
from rsfoundation.engine.run_hooks import check_head_classes


class WindowModel:
    """A model, its test pipeline without the loading steps, its task and its classes.

    Args:
        model: A checkpoint file, or a run folder (its best, else newest checkpoint is taken).
        config: The config, or one that was read; ``config.py`` next to the checkpoint when not given.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        overrides: ``key.sub=value`` strings applied to the config.
        tta: Predict each window several times, flipped and at several scales, as the task merges them.

    Raises:
        RSFError: The checkpoint or the config is missing, broken, or they do not belong together; or the
            task has no such merging.
    """

    def __init__(
        self,
        model: str | Path,
        config: str | Path | Config | None = None,
        device: str = "auto",
        overrides: Sequence[str] = (),
        tta: bool = False,
    ) -> None:
        self.device = use_device(device)
        self.checkpoint = find_checkpoint(model)
        cfg = config_of_checkpoint(self.checkpoint, config, overrides)
        self.task: Task = build_task(cfg)
        self.scenes = require(self.task, PredictsScenes, "rsf predict")
        content = read_saved(self.checkpoint)
        request = RunRequest("predict", tta=tta)
        self.cfg = resolve_config(cfg, RunOptions(), self.task, request, device=self.device).cfg
        init_default_scope(self.cfg.get("default_scope", "mmengine"))
        self.classes: Classes = checkpoint_classes(content.get("meta") or {}, self.cfg)
        network, self.merged = inference_model(self.cfg, content, self.checkpoint)
        check_head_classes(network, self.classes.names, "the class list", str(self.checkpoint))
        if tta:
            network = MODELS.build(with_test_time_augmentation(self.cfg, network)).eval()
        self.network = network.to(self.device)
        self.tta = tta
        self.loading = loading_of(self.cfg)
        self.class_agnostic = suppresses_across_classes(self.cfg)
        self.label = self.checkpoint.parent.name or self.task.name
        self.pipeline = Compose(_without_loading(self.cfg.test_dataloader.dataset))

    def pack(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """Run the test pipeline, less its loading steps, on the crops of one window.

        Args:
            crops: One array per date, as :class:`rsfoundation.io.loading.ImageLoading` returns them.
        """
        return self.pipeline(self.scenes.window_input(crops))

    def predict_packed(self, packed: Sequence[dict[str, Any]]) -> list[BaseDataElement]:
        """Predict a batch of windows that went through :meth:`pack`.

        Returns:
            One data sample per window, coordinates in pixels of that window.
        """
        with torch.inference_mode():
            return self.network.test_step(pseudo_collate(packed))  # type: ignore[operator]  # mmengine BaseModel

    def predict(self, windows: Sequence[Sequence[np.ndarray]]) -> list[BaseDataElement]:
        """Predict a batch of windows.

        Args:
            windows: For each window its crop(s).

        Returns:
            One data sample per window, coordinates in pixels of that window.
        """
        return self.predict_packed([self.pack(crops) for crops in windows])


_LOADING = ("Load", "MultiImgLoad", "MultiImgMultiAnnLoad")


def _without_loading(dataset: Any) -> list[Any]:
    """Return the test pipeline after its loading steps: windows come as arrays."""
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset.dataset
    steps = dataset.get("pipeline", [])
    names = [str(step.type).rsplit(".", 1)[-1] for step in steps]
    return [step for step, name in zip(steps, names, strict=True) if not name.startswith(_LOADING)]


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
