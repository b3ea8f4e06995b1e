"""A trained model ready to predict windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement

from rsfoundation.core.task import Classes, PredictsScenes, RunRequest, Task, require
from rsfoundation.engine.checkpointing.find import config_of_run, find_checkpoint, read_saved
from rsfoundation.engine.config import build_task, checkpoint_classes, load_config
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
        config: The config; ``config.py`` next to the checkpoint when not given.
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
        config: str | Path | None = None,
        device: str = "auto",
        overrides: Sequence[str] = (),
        tta: bool = False,
    ) -> None:
        self.device = use_device(device)
        self.checkpoint = find_checkpoint(model)
        cfg = load_config(config or config_of_run(self.checkpoint), overrides)
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
