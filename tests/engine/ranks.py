"""Run by tests: trains with one number of CPU ranks, is stopped, and goes on with another.

usage: ranks.py FOLDER RANKS-BEFORE RANKS-AFTER
"""

import os
import shutil
import socket
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from noisy_task import Stopped, noisy_config, stopping

from rsfoundation.engine.options import RunOptions
from rsfoundation.engine.train import train


def one_rank(rank, ranks, port, config, folder, resume):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
        LOCAL_WORLD_SIZE=str(ranks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    launcher = "pytorch" if ranks > 1 else "none"
    try:
        train(config, RunOptions(folder, resume, device="cpu", seed=7, launcher=launcher))
    except Stopped:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def run(ranks, *arguments):
    """Fork ``ranks`` processes: nothing is imported again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sys.stdout.flush()
    children = []
    for rank in range(ranks):
        child = os.fork()
        if not child:
            one_rank(rank, ranks, port, *arguments)
        children.append(child)
    if any(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children):
        sys.exit(1)


if __name__ == "__main__":
    folder, before, after = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    config = noisy_config(folder, "epoch", workers=2)
    if before == after:
        run(after, config, folder / "whole", None)
    run(before, stopping(config, 5), folder / "parts", None)
    shutil.copy(folder / "parts" / "iter_4.pth", folder / "start.pth")
    run(after, config, folder / "parts", "auto")
