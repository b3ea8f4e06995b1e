"""``rsf benchmark``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rsfoundation.cli.console import say, table
from rsfoundation.cli.options import (
    Device,
    JsonFile,
    NetworkArgument,
    Overrides,
    SizeOption,
    read_size,
    write_json,
)
from rsfoundation.core.choices import MemoryFormat, Precision

if TYPE_CHECKING:
    from rsfoundation.engine.benchmark import Benchmark


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("benchmark")(benchmark)


def benchmark(
    name: NetworkArgument,
    size: SizeOption = "512",
    batch: Annotated[int, typer.Option("--batch", help="Images per call.", min=1)] = 1,
    dtype: Annotated[
        Precision, typer.Option("--dtype", help="Number format; in a whole model of its backbone.")
    ] = "float32",
    memory_format: Annotated[
        MemoryFormat, typer.Option("--memory-format", help="Memory layout of weights and images.")
    ] = "channels_last",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Run through torch.compile; in a whole model its backbone.")
    ] = False,
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", help="CPU threads; torch's choice when not given.", min=1)
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", help="Timed calls, after three untimed.", min=1)] = 20,
    json_file: JsonFile = None,
    cfg_options: Overrides = None,
) -> None:
    """Time a backbone's forward, or a config's model with its post-processing, on random images.

    Example: rsf benchmark lsknet_t --size 512 --threads 2
    """
    from dataclasses import asdict

    from rsfoundation.engine.benchmark import BenchmarkOptions
    from rsfoundation.engine.benchmark import benchmark as run

    options = BenchmarkOptions(
        size=read_size(size),
        batch=batch,
        dtype=dtype,
        channels_last=memory_format == "channels_last",
        compiled=compiled,
        device=device,
        threads=threads,
        repeats=repeats,
    )
    result = run(name, options, cfg_options or ())
    table(f"{name}: {result.what}", ("quantity", "value"), _rows(result))
    say("Random images and weights. Timings taken while other programs run are not reliable.")
    write_json(json_file, {"name": name, **asdict(result)})


def _rows(result: Benchmark) -> list[tuple[str, object]]:
    timed = result.latency
    memory = "GPU memory" if timed.device != "cpu" else "resident memory of the process"
    return [
        ("latency p50", f"{timed.p50_ms:.2f} ms"),
        ("latency p95", f"{timed.p95_ms:.2f} ms"),
        ("images/s at p50", f"{timed.images_per_s:.2f}"),
        (f"peak {memory}", f"{timed.peak_memory_mib:.0f} MiB"),
        ("input", " x ".join(map(str, timed.input_shape))),
        ("dtype", timed.dtype),
        ("memory format", timed.memory_format),
        ("torch.compile", "yes" if timed.compiled else "no"),
        ("device", timed.device),
        ("processor", result.processor),
        ("threads", timed.threads),
        ("timed calls", result.repeats),
        ("versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
    ]
