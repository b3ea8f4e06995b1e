"""Base class of the pyramid backbones: outputs, freezing, activation checkpointing, arguments."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.models.pretrained.loading import PublishedModule

Arch = TypeVar("Arch")
NormCfg = Mapping[str, Any]
Size = tuple[int, int]
STRIDES = (4, 8, 16, 32)
BATCH_NORM: NormCfg = dict(type="BN")


def read_arch(owner: str, arch: str, known: Mapping[str, Arch]) -> Arch:
    """Look up an architecture by its name.

    Args:
        owner: Name of the network, for the error.
        arch: The name that was given.
        known: Settings by name.

    Raises:
        ConfigError: ``arch`` is not a known name.
    """
    if arch not in known:
        raise ConfigError(
            f"arch {arch!r} is not one of {', '.join(known)}", where=owner, fix=nearest(str(arch), known)
        )
    return known[arch]


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Spread stochastic depth over all blocks: 0 at the first, ``rate`` at the last.

    Args:
        rate: Rate of the last block.
        depths: Blocks of each stage.

    Returns:
        One list per stage, one rate per block.
    """
    rates = iter(torch.linspace(0, rate, sum(depths), dtype=torch.float64, device="cpu").tolist())
    return [[next(rates) for _ in range(depth)] for depth in depths]


class BaseNetwork(PublishedModule, ABC):
    """A network with several outputs, whose first part can be frozen: pyramid backbones and plain encoders.

    Args:
        stage_channels: Channels of every stage's map.
        out_indices: Stages to return, counted from 0.
        frozen_stages: Number of stages to freeze (no gradients, evaluation mode).
        norm_eval: Keep batch norms in evaluation mode while training.
        with_cp: Recompute blocks in the backward pass instead of keeping their activations.
        init_cfg: Initialisation as MMEngine reads it, such as
            ``dict(type='Pretrained', checkpoint=...)``.
        strides: Input pixels per pixel of every stage's map.

    Attributes:
        out_channels: Channels of each returned map.
        out_strides: Input pixels per pixel of each returned map.
        load_report: Report of the checkpoint that ``init_cfg`` names, once it is loaded.

    Raises:
        ConfigError: ``out_indices`` or ``frozen_stages`` name stages that do not exist.
    """

    unit: ClassVar[str] = "stages"

    def __init__(
        self,
        stage_channels: Sequence[int],
        out_indices: Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
        init_cfg: Any,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__(init_cfg)
        stages = len(stage_channels)
        if not out_indices or not all(0 <= index < stages for index in out_indices):
            raise ConfigError(
                f"out_indices {tuple(out_indices)} do not fit {stages} {self.unit}", where=type(self).__name__
            )
        if not -1 <= frozen_stages <= stages:
            raise ConfigError(
                f"frozen_stages {frozen_stages} is not in -1..{stages} {self.unit}",
                where=type(self).__name__,
            )
        self.out_indices = tuple(sorted(set(out_indices)))
        self.out_channels = tuple(stage_channels[index] for index in self.out_indices)
        self.out_strides = tuple(strides[index] for index in self.out_indices)
        self.frozen_stages, self.norm_eval, self.with_cp = frozen_stages, norm_eval, with_cp

    @abstractmethod
    def frozen_modules(self) -> Iterable[nn.Module]:
        """Return the modules that ``frozen_stages`` covers."""

    @abstractmethod
    def init_scratch(self) -> None:
        """Initialise as the published network does before any checkpoint."""

    def freeze(self) -> None:
        """Turn off gradients and batch statistics of the frozen modules; subclasses call it once built."""
        for module in self.frozen_modules():
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "BaseNetwork":
        """Set the mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        if mode:
            self.freeze()
            for module in self.modules() if self.norm_eval else ():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def run_block(self, block: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
        """Call ``block``; with ``with_cp`` it is recomputed in the backward pass.

        Args:
            block: A module or function.
            *inputs: Its arguments.
        """
        if not (self.with_cp and self.training and torch.is_grad_enabled()):
            return block(*inputs)
        return checkpoint(
            block,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), _keep_statistics(block)),
        )


class Backbone(BaseNetwork):
    """A network that turns ``(N, bands, H, W)`` into one map per stage, at strides 4, 8, 16 and 32.

    ``forward`` returns the maps of ``out_indices`` as a tuple, in stage order. It runs :meth:`run_stem`, then
    :meth:`run_stage` of every stage up to the last one returned, and takes :meth:`stage_output` of each:
    subclasses define these three, so that a network can work between two stages.

    Arguments are those of :class:`BaseNetwork`. ``frozen_stages`` freezes the stem and this many stages: 0
    freezes the stem alone, -1 nothing.
    """

    @property
    def num_stages(self) -> int:
        """How many stages there are, returned or not."""
        return len(STRIDES)

    @abstractmethod
    def run_stem(self, image: torch.Tensor) -> torch.Tensor:
        """Return what the first stage takes from an image batch ``(N, bands, H, W)``."""

    @abstractmethod
    def run_stage(self, index: int, features: torch.Tensor) -> torch.Tensor:
        """Return the map ``(N, C, h, w)`` of stage ``index`` from that of the stage before it.

        Args:
            index: Stage, counted from 0.
            features: What :meth:`run_stem` or the stage before returned.
        """

    def stage_output(self, index: int, features: torch.Tensor, size: Size) -> torch.Tensor:
        """Return what ``forward`` gives out for the map of a stage: by default the map itself.

        Args:
            index: Stage, counted from 0.
            features: What :meth:`run_stage` returned.
            size: Height and width of the image.
        """
        return features

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the stage maps of an image batch ``(N, bands, H, W)``."""
        size: Size = (x.shape[2], x.shape[3])
        x = self.run_stem(x)
        maps = []
        for stage in range(max(self.out_indices) + 1):
            x = self.run_stage(stage, x)
            if stage in self.out_indices:
                maps.append(self.stage_output(stage, x, size))
        return tuple(maps)


@contextlib.contextmanager
def _keep_statistics(block: Any) -> Iterator[None]:
    """Keep running statistics unchanged in the second forward of a checkpointed block."""
    owner = getattr(block, "__self__", block)  # the module of a bound method
    norms = [module for module in owner.modules() if isinstance(module, _BatchNorm)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
