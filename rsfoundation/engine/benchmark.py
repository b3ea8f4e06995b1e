"""Timing a config's model, or a backbone, with every condition that the timings depend on."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from rsfoundation.engine.environment import installed_version, use_device
from rsfoundation.engine.networks import bands_of, build_network, is_whole_model, network_config


class CastBackbone(nn.Module):
    """A backbone in another number format, between parts that stay in float32.

    Args:
        backbone: The backbone.
        dtype: Of its weights and of what it computes.
        compiled: Run it through ``torch.compile``.
    """

    def __init__(self, backbone: nn.Module, dtype: torch.dtype, compiled: bool) -> None:
        super().__init__()
        self.dtype = dtype
        self.backbone = torch.compile(backbone.to(dtype)) if compiled else backbone.to(dtype)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the maps in the number format of ``x``."""
        return tuple(maps.to(x.dtype) for maps in self.backbone(x.to(self.dtype)))


class Prediction(nn.Module):
    """A whole model as a module that takes one tensor: forward and post-processing, as at test.

    Args:
        network: A model of one of the toolboxes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        """Return the predictions for normalised images ``(N, bands, H, W)``."""
        return self.network(x, self._samples(x), mode="predict")

    def _samples(self, x: torch.Tensor) -> list[Any] | None:
        if hasattr(self.network, "decode_head"):  # mmseg's make their own
            return None
        from mmdet.structures import DetDataSample

        size = tuple(x.shape[2:])
        meta = dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0)
        )
        return [DetDataSample(metainfo=meta) for _ in range(len(x))]


_WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Timings of one model's forward in evaluation mode.

    Attributes:
        p50_ms: Median milliseconds of a batch; by the device's events on a GPU.
        p95_ms: 95th percentile.
        images_per_s: Images per second at the median.
        peak_memory_mib: Most memory held during the timing: the device's allocator on a GPU; on a CPU the
            resident size of the whole process, its peak so far.
        input_shape: ``(N, bands, H, W)``.
        dtype: Of weights and input.
        memory_format: ``'channels_last'`` or ``'contiguous'``.
        device: Name of the device.
        compiled: Whether the model went through ``torch.compile``.
        threads: CPU threads of one operation.
    """

    p50_ms: float
    p95_ms: float
    images_per_s: float
    peak_memory_mib: float
    input_shape: tuple[int, ...]
    dtype: str
    memory_format: str
    device: str
    compiled: bool
    threads: int


def measure_latency(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    dtype: torch.dtype | None = torch.float32,
    channels_last: bool = True,
    device: str = "cpu",
    compiled: bool = False,
    repeats: int = 20,
) -> Latency:
    """Time a model's forward on random input.

    Args:
        model: A backbone, or any module whose ``forward`` takes one tensor; it is moved to ``device`` and
            ``dtype`` and put in evaluation mode.
        input_shape: ``(N, bands, H, W)``.
        dtype: Of weights and input; ``None`` leaves the weights as they are and takes float32 input.
        channels_last: Memory layout of weights and input.
        device: Where to run.
        compiled: Run through ``torch.compile``.
        repeats: Timed calls, after three untimed ones.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.eval().to(device=device, dtype=dtype)
    dtype = dtype or torch.float32
    model = model.to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stubs
    x = torch.randn(input_shape).to(device=device, dtype=dtype, memory_format=layout)
    run = torch.compile(model) if compiled else model
    with torch.no_grad():
        for _ in range(_WARM_UP):
            run(x)
        _reset_peak(x.device)
        times = sorted(_timed(run, x) for _ in range(repeats))
    median = statistics.median(times)
    return Latency(
        p50_ms=median * 1e3,
        p95_ms=times[min(len(times) - 1, round(0.95 * len(times)))] * 1e3,
        images_per_s=len(x) / median,
        peak_memory_mib=_peak_bytes(x.device) / 2**20,
        input_shape=tuple(input_shape),
        dtype=str(dtype).removeprefix("torch."),
        memory_format="channels_last" if channels_last else "contiguous",
        device=torch.cuda.get_device_name(x.device) if x.is_cuda else device,
        compiled=compiled,
        threads=torch.get_num_threads(),
    )


def _timed(run: Callable[[torch.Tensor], object], x: torch.Tensor) -> float:
    """Return the seconds of one call: the device's own clock on a GPU, an idle one at the start."""
    if x.is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(x.device)
        start.record()
        run(x)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    begin = time.perf_counter()
    run(x)
    return time.perf_counter() - begin


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes everywhere else


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

    Args:
        name: A backbone of `rsf info models`, or a config.
        options: Size, batch, type, device and number of runs.
        overrides: ``key.sub=value`` strings applied to the config.

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
