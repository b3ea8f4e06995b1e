"""Run by tests: kills a training at random moments until it is done, and compares it with an undisturbed one.

usage: kills.py FOLDER NUMBER-OF-KILLS SEED

Each life of the training tells through a pipe where a save begins and ends. Most kills come a random part
of a save's length after one of the next saves began, the rest a random part of the time between two saves
after one ended, or while the training starts.
"""

import os
import random
import select
import signal
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from forks import fork, preload
from noisy_task import differences, noisy_config

from rsfoundation.engine.checkpointing.checkpoint_hook import CheckpointHook
from rsfoundation.engine.checkpointing.find import named_by_marker, newest_complete
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.io.checkpoints import is_complete, read_checkpoint


class Life:
    """A training in a process of its own, of which is known when it saves."""

    def __init__(self, config, folder, resume):
        self.pipe, writer = os.pipe()
        self.heard, self.times = "", []
        self.process = fork(_train, config, folder, resume, writer)
        os.close(writer)

    def listen(self, sign, count, seconds=600):
        """Wait for the ``count``-th ``sign``, for the end of the process, or for ``seconds``."""
        end = time.monotonic() + seconds
        while self.heard.count(sign) < count:
            if not select.select([self.pipe], [], [], max(0, end - time.monotonic()))[0]:
                return
            part = os.read(self.pipe, 1)
            if not part:
                return
            self.heard += part.decode()
            self.times.append(time.monotonic())

    def kill(self):
        """Kill it; return its exit status if it had ended, and say where the kill fell."""
        os.kill(self.process, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.listen("none", 1)  # what it had said by then
        os.close(self.pipe)
        moment = {"": "before", "b": "during", "e": "after"}[self.heard[-1:]]
        return None if status == -signal.SIGKILL else status, moment

    def wait(self):
        """Return the exit status."""
        self.listen("none", 1)
        os.close(self.pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])

    def lengths(self, sign):
        """Return the median seconds between a ``sign`` and the next one."""
        ends = range(1, len(self.times))
        spans = sorted(self.times[i] - self.times[i - 1] for i in ends if self.heard[i - 1] == sign)
        return spans[len(spans) // 2]


def _train(config, folder, resume, writer):
    write = CheckpointHook.write

    def counted(*arguments, **options):
        os.write(writer, b"b")
        write(*arguments, **options)
        os.write(writer, b"e")

    CheckpointHook.write = counted
    train(config, RunOptions(folder, resume, device="cpu", seed=7))


def check(folder):
    """Every checkpoint that has a name is whole and readable; once one was named, one can be resumed."""
    for file in folder.glob("*.pth"):
        assert is_complete(file), f"{file} is torn"
        read_checkpoint(file)
    named = named_by_marker(folder)
    if named is not None:
        assert named.is_file(), f"{named} was named and is not there"
        assert newest_complete(folder) is not None


def end_life(life, chance, saving, training):
    """Kill a life at a random moment; return its exit status if it ended first, and the moment."""
    kind = chance.choices(["save", "between", "start"], [70, 22, 8])[0]
    if kind == "save":
        life.listen("b", chance.randint(1, 4))
        time.sleep(chance.uniform(0, saving))
    elif kind == "between":
        life.listen("e", chance.randint(1, 4))
        time.sleep(chance.uniform(0, training))
    else:
        life.listen("b", 1, chance.uniform(0, 0.5))
    return life.kill()


def main(folder, kills, seed):
    preload()
    config = noisy_config(folder, "epoch", every=1)
    chance = random.Random(seed)
    whole = Life(config, folder / "whole", None)
    assert whole.wait() == 0
    saving, training = whole.lengths("b"), whole.lengths("e")
    counts, rounds = Counter(), 0
    while counts["kills"] < kills:
        rounds += 1
        run = folder / f"run{rounds}"
        status = None
        while status is None:
            life = Life(config, run, "auto")
            if counts["kills"] < kills:
                status, moment = end_life(life, chance, saving, training)
                counts.update(["kills", moment] if status is None else [])
                counts["left"] += any(run.glob(".*.part"))
            else:
                status = life.wait()
            if run.is_dir():
                check(run)
        assert status == 0, "a resumed run failed"
        last = run / "iter_18.pth"
        assert not (found := differences(folder / "whole" / last.name, last)), found[:5]
        left = [path.name for path in run.iterdir() if path.name.endswith(".part")]
        assert not left, left
        assert len(list(run.glob("iter_*.pth"))) <= 3
    print("COUNTS", *(f"{key}={counts[key]}" for key in ("kills", "before", "during", "after", "left")))
    print(f"{rounds} runs; a save takes {saving * 1e3:.0f} ms, {training * 1e3:.0f} ms lie between two")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
