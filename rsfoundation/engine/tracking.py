"""Logging a run to TensorBoard or wandb, through mmengine's backends."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from mmengine.config import Config
from mmengine.visualization import WandbVisBackend as _WandbVisBackend

from rsfoundation.core.choices import Tracker
from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import VISBACKENDS


@VISBACKENDS.register_module()
class WandbVisBackend(_WandbVisBackend):
    """``WandbVisBackend`` that keeps the config alone: mmengine's uploads every script below the folder."""

    def add_config(self, config: Config, **_options: Any) -> None:
        """Record the config."""
        self.experiment.config.update(config.to_dict(), allow_val_change=True)

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
        return dict(type="TensorboardVisBackend")
    run = dict(name=Path(cfg.work_dir).name)
    if "WANDB_PROJECT" not in os.environ:
        run["project"] = "rsfoundation"
    return dict(type="rsfoundation.WandbVisBackend", init_kwargs=run)
