"""Where the wall time of a training step goes, data loading included, on a quiet and on a shared machine.

    python benchmarks/step.py [CONFIG ...] --data FOLDER [--steps 20] [--neighbours 1] [--json out.json]

Runs the config's own training loop and times its parts: reading and augmenting a batch, its transfer and
normalisation, backbone, neck, the heads' losses, backward, gradient clipping with the optimiser, hooks. Times
are medians over the steps after the first ``--warm-up``; ``other`` is the rest. On a GPU each part waits for
the device, so that parts add up; ``--plain`` times whole steps without these waits. It runs on older commits,
too (PYTHONPATH), for comparisons on one machine. `training_step.py` times the published configs' sizes.

With ``--neighbours N`` busy processes of one thread each start when training has begun, and end again: the
medians of the three phases are printed. Training sees them as a user's other programs.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from rsfoundation.engine.config import load_config
from rsfoundation.engine.train import train

CONFIGS = (
    "detection_toy_lsknet_t",
    "segmentation_toy_lsknet_t",
    "change_toy_lsknet_t",
    "instance_toy_lsknet_t",
)
TASKS = ("detection", "segmentation", "change", "instance")
# Places of the timed parts in a model: attribute, method, name of the row.
PARTS = (
    ("data_preprocessor", "forward", "transfer"),
    ("backbone", "forward", "backbone"),
    ("neck", "forward", "neck"),
    ("rpn_head", "loss_and_predict", "RPN and assign"),
    ("roi_head", "loss", "RoI"),
    ("bbox_head", "loss", "heads and loss"),
    ("decode_head", "loss", "heads and loss"),
    ("auxiliary_head", "loss", "heads and loss"),
)
BUSY = "x = 1\nwhile True:\n    x = x * 3 % 1000003"


class Parts:
    """Seconds of named parts, per step; a part within another is counted once, in the inner one."""

    def __init__(self, *, wait: bool) -> None:
        self.wait = wait
        self.steps: list[dict[str, float]] = []
        self._now: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    def clock(self) -> float:
        """Return the time, after the device has done its work where it is waited for."""
        if self.wait:
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return ``call`` with its time added to ``name``."""

        @wraps(call)
        def run(*args: Any, **kwargs: Any) -> Any:
            start = self.clock()
            self._inside.append(0.0)
            try:
                return call(*args, **kwargs)
            finally:
                seconds = self.clock() - start
                self._now[name] += seconds - self._inside.pop()
                if self._inside:
                    self._inside[-1] += seconds

        return run

    def add(self, name: str, seconds: float) -> None:
        """Count seconds of this step."""
        self._now[name] += seconds

    def end_step(self, seconds: float) -> None:
        """Close a step that took ``seconds``."""
        self.steps.append({**self._now, "other": seconds - sum(self._now.values()), "step": seconds})
        self._now = defaultdict(float)


class StepTimer(Hook):
    """Times the parts of each step and starts and ends the neighbours."""

    priority = "VERY_LOW"

    def __init__(self, parts: Parts | None, steps: int, warm_up: int, neighbours: int) -> None:
        self.parts = parts or Parts(wait=False)
        self.detailed, self.steps, self.warm_up, self.neighbours = (
            parts is not None,
            steps,
            warm_up,
            neighbours,
        )
        self.losses: list[float] = []
        self._busy: list[subprocess.Popen[bytes]] = []
        self._last = 0.0

    def before_train(self, runner: Any) -> None:
        """Put the timers around the model's parts."""
        if not self.detailed:
            return
        model, timed = runner.model, self.parts.timed
        model = getattr(model, "module", model)
        for attribute, method, name in PARTS:
            part = getattr(model, attribute, None)
            if part is not None and hasattr(part, method):
                setattr(part, method, timed(getattr(part, method), name))
        wrapper = runner.optim_wrapper
        wrapper.backward = timed(wrapper.backward, "backward")
        wrapper.step = timed(wrapper.step, "clip and optimiser")
        runner.call_hook = timed(runner.call_hook, "hooks")

    def before_train_epoch(self, runner: Any) -> None:
        """The first batch of an epoch starts."""
        self._last = self.parts.clock()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Close the step."""
        now = self.parts.clock()
        data = runner.message_hub.get_scalar("train/data_time").current()
        if self.detailed:
            self.parts.add("data", data)
        self.parts.end_step(now - self._last)
        self._last = now
        self.losses.append(float(outputs["loss"]))
        done = len(self.parts.steps) - self.warm_up
        if self.neighbours and done == self.steps:
            command = [sys.executable, "-c", BUSY]
            self._busy = [subprocess.Popen(command) for _ in range(self.neighbours)]
        if self.neighbours and done == 2 * self.steps:
            self.end_neighbours()

    def end_neighbours(self) -> None:
        """End the busy processes."""
        for process in self._busy:
            process.kill()
            process.wait()
        self._busy = []


def measure(name: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train one config for as many steps as asked."""
    cfg = load_config(name)
    phases = 3 if args.neighbours else 1
    total = args.warm_up + phases * args.steps
    task = next(task for task in TASKS if task in name)
    root = str(args.data / task) + "/"
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = root
    if args.batch:
        cfg.train_dataloader.batch_size = args.batch
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 10_000  # ended by the exception below
    cfg.randomness = dict(seed=0)
    cfg.work_dir = str(folder / name)
    on_gpu = torch.cuda.is_available()
    timer = StepTimer(None if args.plain else Parts(wait=on_gpu), args.steps, args.warm_up, args.neighbours)

    class Stop(Hook):
        priority = "LOWEST"

        def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            if len(timer.parts.steps) >= total:
                raise KeyboardInterrupt

    from mmengine.registry import HOOKS

    HOOKS.register_module("StepTimer", force=True, module=lambda: timer)
    HOOKS.register_module("StopRun", force=True, module=Stop)
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="StepTimer"), dict(type="StopRun")]
    try:
        train(cfg)
    except KeyboardInterrupt:
        pass
    finally:
        timer.end_neighbours()
    steps = timer.parts.steps[args.warm_up :]
    rows = [median_of(steps[phase * args.steps : (phase + 1) * args.steps]) for phase in range(phases)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    losses = timer.losses
    return dict(config=name, phases=rows, peak_mb=peak, first_loss=losses[0], last_loss=losses[-1])


def median_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """Return the median seconds of each part."""
    names = dict.fromkeys(name for step in steps for name in step)
    return {name: statistics.median(step.get(name, 0.0) for step in steps) for name in names}


def main() -> None:
    """Measure in a process per config, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--data", type=Path, default=Path("data/toy"), help="toy scenes: rsf prepare toy")
    parser.add_argument("--steps", type=int, default=20, help="per phase")
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--neighbours", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="whole steps only: no timers inside")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.data = args.data.resolve()
    if args.one:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(args.configs[0], args, Path(folder))
        args.json.write_text(json.dumps(row))
        return
    print(
        f"torch {torch.__version__}, {os.cpu_count()} cores {platform.machine()}, cuda {torch.version.cuda}"
    )
    rows = []
    for name in args.configs:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "row.json"
            command = [sys.executable, __file__, name, *sys.argv[1:], "--one", "--json", str(file)]
            command = [word for word in command if word not in args.configs or word == name]
            done = subprocess.run(command, capture_output=True, text=True)
            if not file.is_file():
                raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
            row = json.loads(file.read_text())
        rows.append(row)
        print_row(row)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def print_row(row: dict[str, Any]) -> None:
    """Print the parts of each phase."""
    print(
        f"{row['config']}: peak {row['peak_mb']:.0f} MiB, "
        f"loss {row['first_loss']:.4f} ... {row['last_loss']:.4f}"
    )
    quiet = row["phases"][0]["step"]
    for title, phase in zip(("quiet", "neighbours", "quiet again"), row["phases"], strict=False):
        print(f"  {title:12} {phase['step'] * 1e3:7.0f} ms a step  {phase['step'] / quiet:5.2f}x")
        parts = {name: seconds for name, seconds in phase.items() if name != "step"}
        if len(parts) > 1:
            line = "  ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in parts.items())
            print(f"    ms: {line}", flush=True)


if __name__ == "__main__":
    main()
