"""Run by tests: kills a training at random moments until it is done, and compares it with an undisturbed one.

usage: kills.py FOLDER NUMBER-OF-KILLS SEED
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from noisy_task import differences, noisy_config

from rsfoundation.checkpoints import read_checkpoint
from rsfoundation.checkpoints.newest import newest_complete
from rsfoundation.checkpoints.publishing import is_complete
from rsfoundation.engine.options import RunOptions
from rsfoundation.engine.train import train


def start(config, folder, resume):
    """Fork a training; nothing is imported again."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            train(config, RunOptions(folder, resume, device="cpu", seed=7))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def wait(child, seconds):
    """Return the exit status of a child that ends within ``seconds``; kill it otherwise."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def check(folder):
    """Every checkpoint that has a name is whole and readable; once one was named, one can be resumed."""
    for file in folder.glob("*.pth"):
        assert is_complete(file), f"{file} is torn"
        read_checkpoint(file)
    marker = folder / "last_checkpoint"
    if marker.exists():
        assert Path(marker.read_text()).is_file(), f"{marker} names nothing"
        assert newest_complete(folder) is not None


def main(folder, kills, seed):
    config = noisy_config(folder, "epoch", every=1)
    chance = random.Random(seed)
    began = time.monotonic()
    assert wait(start(config, folder / "whole", None), 600) == 0
    length = time.monotonic() - began
    done, resumed, rounds = 0, 0, 0
    while done < kills:
        rounds += 1
        run = folder / f"run{rounds}"
        status = None
        while status is None:
            # the last time it may end by itself
            patience = chance.uniform(0.2, 1.1) * length if done < kills else 600
            resumed += run.is_dir() and newest_complete(run) is not None
            status = wait(start(config, run, "auto"), patience)
            done += status is None
            if run.is_dir():
                check(run)
        assert status == 0, "a resumed run failed"
        last = run / "iter_18.pth"
        assert not (found := differences(folder / "whole" / last.name, last)), found[:5]
        left = [path.name for path in run.iterdir() if path.name.endswith(".part")]
        assert not left, left
        assert len(list(run.glob("iter_*.pth"))) <= 3
    print(f"KILLS {done} RESUMED {resumed} RUNS {rounds}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
