import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rsfoundation.cli import app as cpu


@pytest.mark.parametrize(
    ("running", "set_before", "expected"), [(1, None, None), (99, None, "3000"), (99, "7", "7")]
)
def test_threads_spin_less_only_beside_other_programs(monkeypatch, running, set_before, expected):
    monkeypatch.setattr(os, "environ", {"GOMP_SPINCOUNT": set_before} if set_before else {})
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(Path, "read_text", lambda path: f"0.5 0.4 0.3 {running}/100 1234")
    cpu.reduce_spin_waiting()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_systems_without_the_count_are_left_alone(monkeypatch):
    monkeypatch.setattr(os, "environ", {})

    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    cpu.reduce_spin_waiting()
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_is_used_again():
    code = (
        "import resource, numpy as np\n"
        "from rsfoundation.cli.app import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "use = lambda: [np.ones(5 << 18) for _ in range(20)]\n"  # 200 MiB in blocks of 10
        "use()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "use()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(faults) < 1000  # ten thousand otherwise
