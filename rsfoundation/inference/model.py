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

from rsfoundation.engine.checkpoint import find_checkpoint, read_saved
from rsfoundation.engine.config import load_config
from rsfoundation.engine.device import use_device
from rsfoundation.engine.fitting import check_fit
from rsfoundation.engine.norm import drop_sync_bn
from rsfoundation.engine.peft import adapt_state, merge_adapters, model_config
from rsfoundation.engine.runner import unknown_type_error
from rsfoundation.engine.tasks import build_task, classes_of
from rsfoundation.errors import ConfigError
from rsfoundation.task import Classes, Task, TestRequest


class WindowModel:
    """A model, its test pipeline without the loading steps, its task and its classes.

    Args:
        model: A checkpoint file, or a run folder (its best, else newest checkpoint is taken).
        config: The config; ``config.py`` beside the checkpoint when not given.
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
        self.cfg = load_config(config or _config_beside(self.checkpoint), overrides)
        drop_sync_bn(self.cfg)
        init_default_scope(self.cfg.get("default_scope", "mmengine"))
        self.task: Task = build_task(self.cfg)
        content = read_saved(self.checkpoint)
        self.classes: Classes = classes_of(content.get("meta", {}).get("dataset_meta") or {})
        self.network = self._build(content)
        if tta:
            self.network = self._in_several_forms()
        self.pipeline = Compose(_without_loading(self.cfg.test_dataloader.dataset))

    def predict(self, windows: Sequence[Sequence[np.ndarray]]) -> list[BaseDataElement]:
        """Predict a batch of windows.

        Args:
            windows: For each window its BGR crop(s).

        Returns:
            One data sample per window, coordinates in pixels of that window.
        """
        packed = [self.pipeline(self.task.window_input(crops)) for crops in windows]
        with torch.inference_mode():
            return self.network.test_step(pseudo_collate(packed))  # type: ignore[operator]  # mmengine BaseModel

    def _in_several_forms(self) -> torch.nn.Module:
        """Wrap the network as the task does for a test, and take over that test's pipeline."""
        self.cfg.pop("lora", None)  # adapters are part of the weights by now
        self.task.prepare_test(self.cfg, TestRequest(tta=True))
        return MODELS.build({**self.cfg.model, "module": self.network}).eval()

    def _build(self, content: dict[str, Any]) -> torch.nn.Module:
        try:
            network = MODELS.build(model_config(self.cfg))
        except KeyError as error:
            raise unknown_type_error(error, self.cfg) from error
        adapt_state(network, content)
        check_fit(network, content, self.checkpoint)
        state = content.get("state_dict", content)
        network.load_state_dict({key.removeprefix("module."): state[key] for key in state}, strict=False)
        self.merged = merge_adapters(network)
        return network.to(self.device).eval()


def _config_beside(checkpoint: Path) -> Path:
    """Return the run folder's own config. The text stored in the checkpoint is never executed."""
    beside = checkpoint.parent / "config.py"
    if not beside.is_file():
        raise ConfigError(
            "no config.py lies beside the checkpoint",
            where=checkpoint,
            cure="say which config it belongs to: --config",
        )
    return beside


def _without_loading(dataset: Any) -> list[Any]:
    """Return the test pipeline after its loading steps: windows come as arrays."""
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset.dataset
    steps = dataset.get("pipeline", [])
    names = [str(step.type).rsplit(".", 1)[-1] for step in steps]
    return [
        step for step, name in zip(steps, names, strict=True) if not name.startswith(("Load", "MultiImgLoad"))
    ]
