"""Feature dumps and distillations that are killed lose nothing but the last moments."""

import re
import subprocess
import sys

import pytest
from locations import HELPERS


def killed(work, folder, kills, seed, timeout):
    script = HELPERS / "distillation_kills.py"
    command = [sys.executable, str(script), work, str(folder), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", done.stdout)}


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("work", ["dump", "train"])
def test_twenty_kills(work, tmp_path):
    assert killed(work, tmp_path, 20, 1, 1400)["kills"] == 20
