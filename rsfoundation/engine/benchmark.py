"""Timing a config's model, or a backbone, with everything stated that the figures depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from rsfoundation.backbones.latency import Latency, measure_latency
from rsfoundation.engine.device import use_device
from rsfoundation.engine.environment import installed_version
from rsfoundation.engine.networks import (
    CastBackbone,
    Prediction,
    bands_of,
    build_network,
    is_whole_model,
    network_config,
)

_VERSIONS = ("rsfoundation", "torch", "onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation")


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to time a network with.

    Attributes:
        size: Height and width of the images in pixels.
        batch: Images per call.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        channels_last: Memory layout of weights and images.
        compiled: Run through ``torch.compile`` (of a whole model, its backbone).
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of one operation; torch's choice when ``None``.
        repeats: Timed calls.
    """

    size: tuple[int, int]
    batch: int = 1
    dtype: str = "float32"
    channels_last: bool = True
    compiled: bool = False
    device: str = "auto"
    threads: int | None = None
    repeats: int = 20


@dataclass(frozen=True)
class Benchmark:
    """Timings and what they were taken with.

    Attributes:
        what: What one call does.
        latency: The timings.
        processor: Of the machine, with its number of cores.
        repeats: Timed calls.
        versions: Of what takes part.
    """

    what: str
    latency: Latency
    processor: str
    repeats: int
    versions: Mapping[str, str | None]


def benchmark(name: str, options: BenchmarkOptions, overrides: Sequence[str] = ()) -> Benchmark:
    """Time a network on random images, with random weights.

    Of a backbone, the forward; of a config's model, forward and post-processing of normalised images, where
    ``dtype`` and ``compiled`` are those of its backbone: heads stay in float32 and eager.

    Raises:
        ConfigError: The name is unknown, or the device is not there.
    """
    device = use_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    network = build_network(network_config(name, overrides))
    shape = (options.batch, bands_of(network), *options.size)
    what, compiled = "forward of the backbone", options.compiled
    dtype: torch.dtype | None = getattr(torch, options.dtype)
    if is_whole_model(network):
        network.backbone = CastBackbone(network.backbone, dtype, compiled)  # type: ignore[arg-type]
        network, what = Prediction(network), "forward and post-processing of the whole model"
        dtype, compiled = None, False
    latency = measure_latency(
        network,
        shape,
        dtype=dtype,
        channels_last=options.channels_last,
        device=device,
        compiled=compiled,
        repeats=options.repeats,
    )
    return Benchmark(
        what=what,
        latency=replace(latency, dtype=options.dtype, compiled=options.compiled),
        processor=f"{_processor()}, {os.cpu_count()} cores",
        repeats=options.repeats,
        versions={"python": platform.python_version(), **{p: installed_version(p) for p in _VERSIONS}},
    )


def _processor() -> str:
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
