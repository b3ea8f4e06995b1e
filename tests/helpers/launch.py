"""Starts ``worker.py`` on several ranks of this host."""

import json
import os
import subprocess
import sys

from locations import HELPERS, ROOT


def start(folder, scenarios, config="none", ranks=2):
    """Start a process that forks the ranks, which train ``scenarios`` in ``folder``."""
    (folder / "scenarios.json").write_text(json.dumps(scenarios))
    return subprocess.Popen(
        [sys.executable, str(HELPERS / "worker.py"), str(config), str(ranks)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HELPERS))),
            "OMP_NUM_THREADS": "1",
        },
        cwd=folder,
        stdout=(folder / "ranks.log").open("w"),  # a pipe that nobody reads would stop them
        stderr=subprocess.STDOUT,
    )


def finish(ranks, folder, seconds=1500):
    """Wait for the ranks; show what they said if they failed."""
    assert ranks.wait(seconds) == 0, (folder / "ranks.log").read_text()[-6000:]
