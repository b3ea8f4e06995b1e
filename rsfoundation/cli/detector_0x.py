"""``rsf convert detector-0x``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say


def detector_0x(
    source: Annotated[Path, typer.Argument(help="Checkpoint of a detector of mmrotate 0.x.")],
    output: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.")],
    config: Annotated[
        str, typer.Option("--config", "-c", help="Config of the same detector, by path or name.")
    ],
) -> None:
    """Make a detector of mmrotate 0.x, such as those of LSKNet's and LWGANet's authors, one of this package.

    Weights are renamed and compared with the config's model, name by name and shape by shape.

    Example: rsf convert detector-0x s2anet_0x.pth s2anet.pth -c lsknet_s_s2anet_1x_dota_ms
    """
    from rsfoundation.engine.convert_detector import convert_detector

    done = convert_detector(source, config, output)
    say(f"{done.family}: {done.tensors} tensors, {done.renamed} renamed")
    if done.dropped:
        say(f"left out: {len(done.dropped)} buffers of weight averaging (the averages themselves are kept)")
    for note in done.notes:
        say(f"note: {note}")
    say(f"written: {done.output}")
