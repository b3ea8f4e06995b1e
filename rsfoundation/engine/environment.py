"""The environment of this process: device, installed versions, and the checks of ``rsf doctor``."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from rsfoundation.core.errors import ConfigError

PACKAGES = (
    "rsfoundation",
    "torch",
    "torchvision",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "onedl-mmsegmentation",
    "onedl-mmrotate",
    "numpy",
    "numba",
    "opencv-python-headless",
    "shapely",
    "deepspeed",
    "peft",
    "wandb",
    "rasterio",
)


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or ``None``."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def environment_report() -> dict[str, Any]:
    """Return versions, device and command as plain values, for the run folder and for bug reports."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "operators": operator_source(),
        "packages": {name: installed_version(name) for name in PACKAGES},
    }


def operator_source() -> str:
    """Describe where mmcv's operators come from: the value of ``RSF_OPS`` and the installed choices."""
    from rsfoundation.ops.mmcv_ext import choice, compiled_mmcv

    present = "rsfoundation.ops" if compiled_mmcv() is None else "rsfoundation.ops, compiled mmcv"
    return f"RSF_OPS={choice()}: {present}"


def use_device(name: str) -> str:
    """Make ``name`` the device of every runner in this process.

    Args:
        name: ``auto`` (CUDA where there is any), ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        ``'cpu'`` or ``'cuda'``.

    Raises:
        ConfigError: The name is unknown, or CUDA is asked for and absent.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise ConfigError(f"unknown device '{name}'", fix="use --device auto, cpu, cuda or cuda:0")
    if kind == "cpu":
        # mmengine has no setting for the device: it takes CUDA whenever CUDA is visible.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    elif index and "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = index
    import torch

    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"--device {name} was asked for, but torch {torch.__version__} sees no CUDA device",
            fix="`rsf doctor` says why; --device cpu runs without one",
        )
    chosen = "cuda" if kind != "cpu" and torch.cuda.is_available() else "cpu"
    _set_device_of_mmengine(chosen)
    if chosen == "cpu":
        limit_spin_waiting()
    return chosen


def _set_device_of_mmengine(device: str) -> None:
    """Correct the device that mmengine remembered when it was imported earlier."""
    utils = sys.modules.get("mmengine.device.utils")
    if utils is not None and getattr(utils, "DEVICE", "cpu") in ("cpu", "cuda"):
        utils.DEVICE = device  # type: ignore[attr-defined]


Status = Literal["ok", "note", "warning", "error"]
_PAIR_FIX = "uv pip install --reinstall torch torchvision   (both from the same place)"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        status: ``error`` stops programs, ``warning`` may, ``note`` is for knowledge.
        found: What there is.
        fix: The command that repairs it; empty when nothing is wrong.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """Run every check; none of them raises."""
    checks: list[Check] = []
    for probe in _PROBES:
        try:
            checks.extend(probe())
        except Exception as error:  # a check that fails must not hide the others
            name = probe.__name__.strip("_").replace("_", " ")
            checks.append(Check(name, "error", f"the check itself failed: {type(error).__name__}: {error}"))
    return checks


def _python() -> Iterator[Check]:
    version = platform.python_version_tuple()
    fits = (3, 10) <= (int(version[0]), int(version[1])) < (3, 14)
    fix = "" if fits else "make a new environment with Python 3.10 to 3.13"
    yield Check("Python", "ok" if fits else "error", platform.python_version(), fix)


def _requirements() -> Iterator[Check]:
    """Compare what is installed with what the package's own metadata asks for."""
    for line in requires("rsfoundation") or []:
        wanted = Requirement(line)
        extra = str(wanted.marker) if wanted.marker and "extra" in str(wanted.marker) else ""
        if wanted.marker and not extra and not wanted.marker.evaluate():
            continue
        found = installed_version(wanted.name)
        install = f"uv pip install '{wanted.name}{wanted.specifier}'"
        if extra and "dev" in extra:
            continue
        if found is None and extra:
            group = extra.split("==")[-1].strip(" '\"")
            fix = f"uv pip install 'rsfoundation[{group}]'"
            yield Check(wanted.name, "note", f"not installed (extra '{group}')", fix)
        elif found is None:
            yield Check(wanted.name, "error", "not installed", install)
        elif not wanted.specifier.contains(found, prereleases=True):
            yield Check(wanted.name, "error", f"{found}, needs {wanted.specifier}", install)
        else:
            yield Check(wanted.name, "ok", found)


def _torch_pair() -> Iterator[Check]:
    """The operators of torchvision fail to load with a torch it was not built for."""
    try:
        torch = import_module("torch")
    except Exception as error:
        yield Check("torch import", "error", f"{type(error).__name__}: {error}", _PAIR_FIX)
        return
    try:
        vision = import_module("torchvision")
        vision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        found = f"torch {torch.__version__} and torchvision {installed_version('torchvision')}: {error}"
        yield Check("torch / torchvision pair", "error", found, _PAIR_FIX)
    else:
        yield Check("torch / torchvision pair", "ok", f"{torch.__version__} / {vision.__version__}")


def _device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Check("CUDA", "ok", f"{torch.version.cuda}: {names}")
    elif torch.version.cuda:
        found = f"torch is built for CUDA {torch.version.cuda}, but no device is visible: running on CPU"
        yield Check(
            "CUDA", "note", found, "on a GPU machine: check `nvidia-smi`, the driver, CUDA_VISIBLE_DEVICES"
        )
    else:
        yield Check(
            "CUDA", "note", "torch is a CPU build", "for a GPU: install torch and torchvision with CUDA"
        )


def _operators() -> Iterator[Check]:
    yield Check("mmcv operators", "ok", operator_source())


def _toolboxes() -> Iterator[Check]:
    """Import what every run imports; a half-broken installation shows here."""
    for name in ("mmengine", "mmcv.ops", "mmdet.models", "mmdet.datasets", "mmseg.models", "mmrotate.models"):
        try:
            import_module(name)
        except Exception as error:
            package = name.split(".")[0]
            yield Check(
                f"import {name}",
                "error",
                f"{type(error).__name__}: {error}",
                _import_fix(package, str(error)),
            )


def _import_fix(package: str, message: str) -> str:
    if "torchvision" in message:
        return _PAIR_FIX
    if "imgaug" in message or "sctypes" in message:
        return "uv pip uninstall imgaug imaug && uv pip install imaug"
    dist = {"mmdet": "mmdetection", "mmseg": "mmsegmentation"}.get(package, package)
    return f"uv pip install --reinstall onedl-{dist}"


def _original_toolboxes() -> Iterator[Check]:
    """The maintained forks share import names with the originals; both at once overwrite each other."""
    for original, fork in (
        ("mmengine", "onedl-mmengine"),
        ("mmcv", "onedl-mmcv"),
        ("mmcv-full", "onedl-mmcv"),
        ("mmdet", "onedl-mmdetection"),
        ("mmsegmentation", "onedl-mmsegmentation"),
        ("mmrotate", "onedl-mmrotate"),
    ):
        found = installed_version(original)
        if found:
            fix = f"uv pip uninstall {original} && uv pip install --reinstall {fork}"
            yield Check(original, "error", f"{found}, in the way of {fork}: both own the same folder", fix)


def _imgaug() -> Iterator[Check]:
    old, new = installed_version("imgaug"), installed_version("imaug")
    if old:
        yield Check(
            "imgaug",
            "error",
            f"imgaug {old} fails with numpy 2 and overwrites its successor imaug {new or '(not installed)'}",
            "uv pip uninstall imgaug imaug && uv pip install imaug",
        )


def _opencv() -> Iterator[Check]:
    names = (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    )
    found = {name: version for name in names if (version := installed_version(name))}
    if len(found) < 2:
        return
    others = " ".join(name for name in found if name != "opencv-python-headless")
    fix = f"uv pip uninstall {others} opencv-python-headless && uv pip install opencv-python-headless"
    listing = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(set(found.values())) > 1:
        yield Check("OpenCV", "error", f"several builds of different versions in one folder: {listing}", fix)
    else:
        yield Check("OpenCV", "note", f"several builds of one version share a folder: {listing}", fix)


def _configs() -> Iterator[Check]:
    from rsfoundation.engine.config import list_configs  # imports mmengine, which may be broken

    count = len(list_configs())
    fix = "" if count else "uv pip install --reinstall rsfoundation"
    yield Check("shipped configs", "ok" if count else "error", f"{count} found", fix)


_PROBES: tuple[Callable[[], Iterator[Check]], ...] = (
    _python,
    _requirements,
    _torch_pair,
    _device,
    _operators,
    _original_toolboxes,
    _imgaug,
    _opencv,
    _toolboxes,
    _configs,
)


_SAMPLE_SECONDS = 0.5


class BusyNeighbours:
    """Measures how many processors other programs keep busy, between two calls of :meth:`measure`.

    Args:
        stat: The kernel's counters, Linux's ``/proc/stat``.
    """

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self.cpus = os.sched_getaffinity(0)
        self._stat = stat
        self._before = self._sample()

    def measure(self) -> float:
        """Return the processors, of those that this process may use, that others used since the last call."""
        before, self._before = self._before, self._sample()
        wall, busy, own = (now - then for now, then in zip(self._before, before, strict=True))
        return max(0.0, (busy - own) / wall) if wall > 0 else 0.0

    def _sample(self) -> tuple[float, float, float]:
        """Return the time, and the processor seconds of all programs and of this process."""
        ticks = 0
        for line in self._stat.read_text().splitlines():
            name, *counts = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in self.cpus:
                user, nice, system, _idle, _iowait, irq, softirq = (int(count) for count in counts[:7])
                ticks += user + nice + system + irq + softirq
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


class SpinLimiter(threading.Thread):
    """Shortens the spinning of torch's waiting threads while other programs use the processors.

    A thread of GNU's OpenMP that waits for the others of its team spins for milliseconds. A neighbour that
    shares the processor with one of them then makes all of them several times slower, and the system cannot
    move threads to the processor of one that spins. Without spinning a run alone is slower. libgomp (manual,
    GOMP_SPINCOUNT) spins three thousand times less while there are more OpenMP threads than processors, so a
    second team that sleeps is kept for as long as there are neighbours. Results do not change.
    """

    def __init__(self, neighbours: BusyNeighbours) -> None:
        super().__init__(name="rsf-spin-limiter", daemon=True)
        self.neighbours = neighbours
        self.is_limiting = False
        self._ended = threading.Event()
        self._end_team = threading.Event()

    def run(self) -> None:
        """Watch until the process ends."""
        while not self._ended.wait(_SAMPLE_SECONDS):
            self.update(self.neighbours.measure())
        self.update(0.0)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()

    def update(self, busy: float) -> None:
        """Start or end the second team.

        Args:
            busy: Processors that other programs use.
        """
        if busy >= 0.5 and not self.is_limiting:
            self._end_team = threading.Event()
            started = threading.Event()
            args = (started, self._end_team)
            threading.Thread(target=_hold_team, args=args, name="rsf-spin-team", daemon=True).start()
            started.wait(5)
            self.is_limiting = True
        elif busy < 0.25 and self.is_limiting:
            self._end_team.set()
            self.is_limiting = False


def _hold_team(started: threading.Event, end: threading.Event) -> None:
    """Keep a team of OpenMP threads asleep; it ends with this thread."""
    import torch

    torch.ones(1 << 18).mul_(2)  # long enough for torch to share it among threads
    started.set()
    end.wait()


_limiter: SpinLimiter | None = None


def limit_spin_waiting() -> None:
    """Start the :class:`SpinLimiter` of this process, once.

    Nothing is done where threads cannot outnumber processors, on other systems than Linux, and where the user
    has chosen how threads wait.
    """
    global _limiter
    import torch

    chosen = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ)
    if sys.platform != "linux" or chosen or (_limiter is not None and _limiter.is_alive()):
        return
    try:
        neighbours = BusyNeighbours()
    except (OSError, ValueError):  # a container without /proc
        return
    if 1 < torch.get_num_threads() >= len(neighbours.cpus):
        _limiter = SpinLimiter(neighbours)
        _limiter.start()
