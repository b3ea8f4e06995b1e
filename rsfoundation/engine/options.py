"""What a user may say of a run on the command line, and how it changes the config."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmengine.config import Config

from rsfoundation.engine.amp import use_amp
from rsfoundation.engine.config import merge_overrides
from rsfoundation.engine.device import use_device
from rsfoundation.engine.distributed import init_distributed, use_cpu_wrapper
from rsfoundation.engine.norm import drop_sync_bn
from rsfoundation.engine.strategies.switch import choose_accelerator, use_strategy
from rsfoundation.engine.tracking import use_trackers

Launcher = Literal["none", "pytorch", "deepspeed", "slurm", "mpi"]


@dataclass(frozen=True)
class RunOptions:
    """One run's options, equal for every task.

    Attributes:
        work_dir: Run folder; ``work_dirs/<config name>`` when not given.
        resume: ``'auto'`` for the newest checkpoint of the run folder, or a checkpoint file.
        amp: Mixed precision: float16 with loss scaling on CUDA, bfloat16 on CPU.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: Seed of every random generator; the config's own, or 0, when not given.
        launcher: Who started the ranks of a distributed run.
        strategy: How training is spread over the ranks: a file of ``configs/_base_/strategies``.
        overrides: ``key.sub=value`` strings applied to the config last.
        track: Where to follow the run beside its folder: ``tensorboard``, ``wandb``.
    """

    work_dir: Path | None = None
    resume: str | None = None
    amp: bool = False
    device: str = "auto"
    seed: int | None = None
    launcher: Launcher = "none"
    overrides: tuple[str, ...] = ()
    strategy: str | None = None
    track: tuple[str, ...] = ()


def apply_options(cfg: Config, options: RunOptions) -> None:
    """Change ``cfg`` in place so that an mmengine runner does what ``options`` say.

    Starts the process group of a distributed run: loggers and samplers depend on the rank.
    """
    device = use_device(options.device)
    if options.strategy is not None:
        use_strategy(cfg, options.strategy)
        merge_overrides(cfg, options.overrides)  # what the user says of the strategy goes over its file
    choose_accelerator(cfg, device)
    cfg.work_dir = str(options.work_dir or cfg.get("work_dir") or default_work_dir(cfg))
    # DeepSpeed's launcher sets the same variables as torchrun.
    launcher = "pytorch" if options.launcher == "deepspeed" else options.launcher
    cfg.launcher = launcher
    seed = options.seed if options.seed is not None else cfg.get("randomness", {}).get("seed")
    cfg.randomness = {**cfg.get("randomness", {}), "seed": 0 if seed is None else seed}
    if options.resume is not None:
        cfg.resume = True
        cfg.load_from = None if options.resume == "auto" else options.resume
    if options.amp:
        use_amp(cfg, device)
    use_trackers(cfg, options.track)
    if launcher != "none":
        init_distributed(launcher, device, cfg)
    if launcher == "none" or device == "cpu":
        drop_sync_bn(cfg)
    if launcher != "none" and device == "cpu":
        use_cpu_wrapper(cfg)


def default_work_dir(cfg: Config) -> Path:
    """Return ``work_dirs/<config name>`` below the current folder."""
    return Path("work_dirs") / Path(cfg.filename or "run").stem
