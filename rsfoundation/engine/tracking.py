"""Logging a run to TensorBoard or wandb, through mmengine's backends."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.visualization import TensorboardVisBackend as _TensorboardVisBackend
from mmengine.visualization import WandbVisBackend as _WandbVisBackend

from rsfoundation.core.choices import Tracker
from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import VISBACKENDS

PROGRESS = "rsfoundation_progress"  # info of the message hub: epoch and iter, set by ProgressHook
_TIMES = ("time", "data_time")


def _row(scalars: dict[str, Any], step: int) -> tuple[dict[str, Any], int]:
    """Return the scalars of a row with its ``epoch`` and ``iter``, and its iteration.

    Times of a validation get a tag of their own: ``val/time``.
    """
    progress = MessageHub.get_current_instance().runtime_info.get(PROGRESS, {})
    if "lr" not in scalars:  # a validation
        scalars = {f"val/{key}" if key in _TIMES else key: value for key, value in scalars.items()}
    return {**scalars, **progress}, progress.get("iter", step)


@VISBACKENDS.register_module()
class TensorboardVisBackend(_TensorboardVisBackend):
    """``TensorboardVisBackend`` whose every row is over iterations, validations too."""

    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Record one row.

        Args:
            scalar_dict: Values by tag.
            step: mmengine's step: an iteration in training, an epoch in validation.
            file_path: Not used.
            **kwargs: Not used.
        """
        row, iteration = _row(scalar_dict, step)
        super().add_scalars(row, iteration)


@VISBACKENDS.register_module()
class WandbVisBackend(_WandbVisBackend):
    """``WandbVisBackend`` whose rows carry ``epoch`` and ``iter``, which is the default x axis.

    Of the code it keeps the config alone: mmengine's uploads every script below the folder.
    """

    def add_config(self, config: Config, **_options: Any) -> None:
        """Record the config."""
        self.experiment.config.update(config.to_dict(), allow_val_change=True)
        self._wandb.define_metric("iter")
        self._wandb.define_metric("*", step_metric="iter")

    def add_scalars(
        self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Record one row.

        Args:
            scalar_dict: Values by name.
            step: mmengine's step: an iteration in training, an epoch in validation.
            file_path: Not used.
            **kwargs: Not used.
        """
        super().add_scalars(_row(scalar_dict, step)[0])

    def close(self) -> None:
        """End the wandb run."""
        if hasattr(self, "_wandb"):
            self._wandb.finish()


def use_trackers(cfg: Config, names: tuple[str, ...]) -> None:
    """Add trackers to the visualizer of ``cfg`` in place.

    Args:
        cfg: The config.
        names: The trackers.

    Raises:
        ConfigError: A tracker is unknown or not installed.
    """
    visualizer = cfg.get("visualizer") or dict(type="Visualizer")
    local = [dict(type="LocalVisBackend")]
    backends = list(visualizer.get("vis_backends") or cfg.get("vis_backends") or local)
    for name in names:
        if name not in get_args(Tracker):
            known = " or ".join(get_args(Tracker))
            raise ConfigError(f"there is no tracker '{name}'", fix=f"--track {known}")
        if find_spec(name) is None:
            raise ConfigError(
                f"--track {name} needs {name}, which is not installed",
                fix=f"pip install 'rsfoundation[{name}]'",
            )
        backends.append(_backend(name, cfg))
    cfg.visualizer = {**visualizer, "vis_backends": backends}


def _backend(name: str, cfg: Config) -> dict[str, Any]:
    if name == "tensorboard":
        return dict(type="rsfoundation.TensorboardVisBackend")
    run = dict(name=Path(cfg.work_dir).name)
    if "WANDB_PROJECT" not in os.environ:
        run["project"] = "rsfoundation"
    return dict(type="rsfoundation.WandbVisBackend", init_kwargs=run)
