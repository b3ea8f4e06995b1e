"""Run by tests: trains with one number of CPU ranks, is stopped, and continues with another.

usage: ranks.py FOLDER. For each of CHANGES it leaves ``FOLDER/2-to-1`` and so on, with ``start.pth`` and what
was said; next to them ``whole``, which was not stopped.
"""

import contextlib
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from forks import on_ranks, preload
from noisy_task import Stopped, noisy_config, stopping

from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train

CHANGES = ((2, 2), (2, 1), (1, 2))


def one_rank(ranks, config, folder, resume):
    launcher = "pytorch" if ranks > 1 else "none"
    with contextlib.suppress(Stopped):
        train(config, RunOptions(folder, resume, device="cpu", seed=7, launcher=launcher))


if __name__ == "__main__":
    preload()
    folder = Path(sys.argv[1])
    config = noisy_config(folder, "epoch", workers=2)
    on_ranks(2, one_rank, 2, config, folder / "whole", None)
    for before in (2, 1):
        on_ranks(before, one_rank, before, stopping(config, 5), folder / f"stopped{before}", None)
    for before, after in CHANGES:
        run = folder / f"{before}-to-{after}"
        shutil.copytree(folder / f"stopped{before}", run)
        shutil.copy(run / "iter_4.pth", run / "start.pth")
        on_ranks(after, one_rank, after, config, run, "auto")
