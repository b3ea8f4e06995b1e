"""Options that several verbs share, written once so that they read alike."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

CFG_OPTIONS = "--cfg-options"


class LauncherName(str, Enum):
    """Who started the ranks of a distributed run."""

    none = "none"
    pytorch = "pytorch"
    deepspeed = "deepspeed"
    slurm = "slurm"
    mpi = "mpi"


class TrackerName(str, Enum):
    """Where to follow a run, beside its folder."""

    tensorboard = "tensorboard"
    wandb = "wandb"


ConfigArgument = Annotated[
    str,
    typer.Argument(
        help="Config file, or the name of a shipped one (`rsf info configs` lists them).", metavar="CONFIG"
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        CFG_OPTIONS,
        help="Change config values: KEY.SUB=VALUE ..., for example train_dataloader.batch_size=4.",
        metavar="KEY=VALUE...",
    ),
]
WorkDir = Annotated[
    Path | None,
    typer.Option("--work-dir", help="Run folder; work_dirs/CONFIG-NAME when not given.", metavar="FOLDER"),
]
Device = Annotated[str, typer.Option("--device", help="auto (CUDA where there is any), cpu, cuda or cuda:N.")]
Amp = Annotated[bool, typer.Option("--amp", help="Mixed precision: float16 on CUDA, bfloat16 on CPU.")]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        max=2**32 - 1,  # what numpy takes
        help="Seed of every random generator; the config's, or 0, when not given.",
    ),
]
Launcher = Annotated[
    LauncherName,
    typer.Option("--launcher", help="Who started the ranks of a distributed run (CPU ranks use gloo)."),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How training is spread: ddp, fsdp, deepspeed-zero1, -zero2, -zero3 or -zero3-offload.",
        metavar="NAME",
    ),
]
TrustCheckpoint = Annotated[
    bool,
    typer.Option(
        "--trust-checkpoint",
        help="Read checkpoints that hold more than weights: they can run any program. For your own files.",
    ),
]
Track = Annotated[
    list[TrackerName] | None,
    typer.Option("--track", help="Follow the run in TensorBoard or wandb too; repeat it for both."),
]
# torchrun of older torch releases passes it; the environment variable says the same.
LocalRank = Annotated[int, typer.Option("--local-rank", "--local_rank", hidden=True)]


def expand_overrides(words: list[str]) -> list[str]:
    """Let ``--cfg-options a=1 b=2`` take several values, as every MMEngine user writes it."""
    out: list[str] = []
    taking = False
    for word in words:
        if word == CFG_OPTIONS:
            taking = True
        elif taking and "=" in word and not word.startswith("-"):
            out += [CFG_OPTIONS, word]
        else:
            if taking and (not out or out[-2:-1] != [CFG_OPTIONS]):
                out.append(CFG_OPTIONS)
            taking = False
            out.append(word)
    return out


def complete_resume(words: list[str]) -> list[str]:
    """Let a bare ``--resume`` mean ``--resume auto``, as every MMEngine user writes it."""
    out: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        out.append(word)
        if word == "--resume" and not (following == "auto" or following.endswith(".pth")):
            out.append("auto")
    return out
