"""The doctor finds what is broken and names the fix; it never fails itself."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rsfoundation.engine import environment


def test_this_environment_is_healthy():
    checks = environment.examine()
    assert not [check for check in checks if check.status == "error"]
    assert {"Python", "torch", "torch / torchvision pair", "mmcv operators", "shipped configs"} <= {
        c.name for c in checks
    }


@pytest.fixture
def versions(monkeypatch):
    """Pretend that other versions are installed."""
    real = environment.installed_version
    pretended = {}
    monkeypatch.setattr(environment, "installed_version", lambda name: pretended.get(name, real(name)))
    return pretended


def test_versions_outside_the_bounds_and_missing_packages(versions):
    versions.update({"onedl-mmcv": "2.1.0", "shapely": None})
    found = {check.name: check for check in environment._requirements()}
    assert found["onedl-mmcv"].status == "error" and "2.3.6" in found["onedl-mmcv"].fix
    assert found["shapely"].status == "error" and found["shapely"].found == "not installed"
    assert found["numpy"].status == "ok"


def test_original_toolboxes_and_imgaug_are_in_the_way(versions):
    versions.update({"mmcv": "2.1.0", "imgaug": "0.4.0"})
    (mmcv,) = environment._original_toolboxes()
    assert mmcv.status == "error" and "onedl-mmcv" in mmcv.fix
    (imgaug,) = environment._imgaug()
    assert "uninstall imgaug" in imgaug.fix


@pytest.mark.parametrize(("other", "status"), [("4.5.0", "error"), ("same", "note")])
def test_opencv_duplicates(versions, other, status):
    headless = environment.installed_version("opencv-python-headless")
    versions["opencv-python"] = headless if other == "same" else other
    (check,) = environment._opencv()
    assert check.status == status and "uninstall opencv-python" in check.fix


def test_a_torchvision_built_apart_is_told(monkeypatch):
    import torchvision

    def fail(*args):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", fail)
    (check,) = environment._torch_pair()
    assert check.status == "error" and "torchvision::nms" in check.found and "torchvision" in check.fix


def test_a_failing_check_does_not_hide_the_others(monkeypatch):
    def _python():
        raise ValueError("boom")

    monkeypatch.setattr(environment, "_PROBES", (_python, environment._operators))
    first, second = environment.examine()
    assert first.status == "error" and "boom" in first.found and second.status == "ok"


def counters(cpus, ticks):
    lines = [f"cpu{number} {ticks} 0 0 999 7 0 0 50 0 0" for number in range(cpus)]
    return "\n".join(["cpu  1 2 3 4 5 6 7", *lines, "intr 5"])


def test_neighbours_are_what_others_use_of_our_processors(tmp_path, monkeypatch):
    now = {"wall": 0.0, "own": 0.0}
    monkeypatch.setattr(environment.time, "monotonic", lambda: now["wall"])
    monkeypatch.setattr(environment.time, "process_time", lambda: now["own"])
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(environment.os, "sysconf", lambda name: 100)
    stat = tmp_path / "stat"
    stat.write_text(counters(4, 100))
    neighbours = environment.BusyNeighbours(stat)
    stat.write_text(counters(4, 250))  # 1.5 s on each of our two
    now.update(wall=2.0, own=1.0)
    assert neighbours.measure() == pytest.approx((3.0 - 1.0) / 2.0)
    now.update(wall=4.0, own=3.0)  # counters of the kernel are behind ours
    assert neighbours.measure() == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="of GNU's OpenMP")
def test_a_second_team_sleeps_while_there_are_neighbours():
    code = (
        "import os, time, torch\n"
        "from rsfoundation.engine.environment import BusyNeighbours, SpinLimiter\n"
        "torch.set_num_threads(4)\n"
        "torch.ones(1 << 18).mul_(2)\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "torch.manual_seed(0)\n"
        "image, weight = torch.randn(2, 8, 96, 96), torch.randn(16, 8, 3, 3, requires_grad=True)\n"
        "gradient = lambda: torch.autograd.grad(torch.conv2d(image, weight).square().mean(), weight)[0]\n"
        "limiter, expected, before = SpinLimiter(BusyNeighbours()), gradient(), threads()\n"
        "counts = []\n"
        "for busy in (0.4, 0.9, 1.0, 0.4, 0.1, 0.4):\n"
        "    limiter.update(busy)\n"
        "    end = time.monotonic() + 5\n"
        "    while threads() != before and not limiter.is_limiting and time.monotonic() < end:\n"
        "        time.sleep(0.01)\n"
        "    assert torch.equal(gradient(), expected)\n"
        "    counts.append(threads() - before)\n"
        "print(counts)\n"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "[0, 4, 4, 4, 0, 0]"


@pytest.mark.parametrize(
    ("threads", "variable", "starts"),
    [(2, None, True), (1, None, False), (2, "GOMP_SPINCOUNT", False), (2, "OMP_WAIT_POLICY", False)],
)
def test_the_limiter_runs_where_threads_can_outnumber_processors(monkeypatch, threads, variable, starts):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "passive")
    monkeypatch.setattr(environment, "_limiter", None)
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment, "BusyNeighbours", lambda: SimpleNamespace(cpus={0, 1}, measure=float))
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    environment.limit_spin_waiting()
    limiter = environment._limiter
    assert (limiter is not None and limiter.is_alive()) == starts
    environment.limit_spin_waiting()
    assert environment._limiter is limiter
    if limiter is not None:
        limiter.stop()
        limiter.join(5)
        assert not limiter.is_alive()
