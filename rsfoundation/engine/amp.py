"""Mixed precision on the CPU, which mmengine's own wrapper refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from rsfoundation.errors import ConfigError
from rsfoundation.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Run the forward pass in bfloat16 autocast; bfloat16 has float32's range and needs no loss scaling."""

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Enter autocast for the forward pass of ``model``."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield


def use_amp(cfg: Config, device: str) -> None:
    """Turn the optimiser wrapper of ``cfg`` into its mixed-precision form in place.

    Raises:
        ConfigError: The config uses a wrapper whose precision is set elsewhere.
    """
    if cfg.get("optim_wrapper") is None:
        return
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise ConfigError(
            f"--amp works with OptimWrapper, the config uses '{kind}'",
            where="optim_wrapper.type",
            cure="leave --amp out and set the precision in the config's strategy",
        )
    if device == "cpu":
        cfg.optim_wrapper.pop("loss_scale", None)
        cfg.optim_wrapper.pop("dtype", None)
        cfg.optim_wrapper.type = "rsfoundation.CPUAmpOptimWrapper"
    else:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
