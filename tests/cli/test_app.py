import os
from pathlib import Path

import pytest

from rsfoundation.cli import app


@pytest.mark.parametrize(
    ("running", "set_before", "expected"), [(1, None, None), (99, None, "3000"), (99, "7", "7")]
)
def test_threads_spin_less_only_beside_other_programs(monkeypatch, running, set_before, expected):
    monkeypatch.setattr(os, "environ", {"GOMP_SPINCOUNT": set_before} if set_before else {})
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(Path, "read_text", lambda path: f"0.5 0.4 0.3 {running}/100 1234")
    app._spin_less_on_shared_cores()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_systems_without_the_count_are_left_alone(monkeypatch):
    monkeypatch.setattr(os, "environ", {})

    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    app._spin_less_on_shared_cores()
    assert "GOMP_SPINCOUNT" not in os.environ
