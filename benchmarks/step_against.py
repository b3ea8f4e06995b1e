"""Training steps of two checkouts in turn, so that the ups and downs of the machine cancel out.

    python benchmarks/step_against.py OTHER_CHECKOUT [CONFIG ...] [--folder .] [--seconds 60]

On a virtual machine the same step takes up to a third longer from one minute to the next. Here both trainings
run at once, but one of them is always stopped (SIGSTOP): each computes for two seconds, then the other. Steps
in which a process was stopped do not count. ``--folder`` is where `rsf prepare toy` was run.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

CONFIGS = (
    "detection_toy_lsknet_t",
    "segmentation_toy_lsknet_t",
    "change_toy_lsknet_t",
    "instance_toy_lsknet_t",
)
TURN = 2.0  # seconds
WARM_UP = 4  # steps
HERE = Path(__file__).resolve()


def train_and_log(name: str, log: Path) -> None:
    """Train without an end and write the seconds of each step: the child processes."""
    from mmengine.hooks import Hook
    from mmengine.registry import HOOKS

    from rsfoundation.engine.config import load_config
    from rsfoundation.engine.train import train

    try:
        from rsfoundation.cli.app import keep_freed_memory
    except ImportError:  # an older commit
        from rsfoundation.cli.cpu import keep_freed_memory

    class StepLog(Hook):
        priority = "LOWEST"
        last = 0.0

        def after_train_iter(self, *_: Any, **__: Any) -> None:
            now = time.perf_counter()
            if self.last:
                with log.open("a", encoding="utf-8") as file:
                    file.write(f"{now - self.last}\n")
            self.last = now

    keep_freed_memory()
    HOOKS.register_module(name="StepLog", module=StepLog)
    cfg = load_config(name)
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 10_000
    cfg.randomness = dict(seed=0)
    cfg.work_dir = str(log.with_suffix(""))
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="StepLog")]
    train(cfg)


def compare(name: str, checkouts: dict[str, Path], root: Path, seconds: float, folder: Path) -> None:
    """Print the median step of each checkout."""
    running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    try:
        for label, checkout in checkouts.items():
            log = folder / f"{name}_{label}.txt"
            log.touch()
            command = [sys.executable, str(HERE), "--child", str(log), name]
            environment = dict(os.environ, PYTHONPATH=str(checkout))
            with log.with_suffix(".log").open("wb") as output:
                process = subprocess.Popen(
                    command, cwd=root, env=environment, stdout=output, stderr=output, start_new_session=True
                )
            running[label] = process, log
            while len(steps_of(log)) < WARM_UP:
                time.sleep(0.2)
                check(label, process, log)
            os.killpg(process.pid, signal.SIGSTOP)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for label, (process, log) in running.items():
                os.killpg(process.pid, signal.SIGCONT)
                time.sleep(TURN)
                check(label, process, log)
                os.killpg(process.pid, signal.SIGSTOP)
        for label, (_, log) in running.items():
            seen = steps_of(log)[WARM_UP:]
            typical = statistics.median(seen) if seen else TURN
            if typical > TURN / 2:
                sys.exit(f"{name}: {label} made no whole step in {TURN:.0f} s, or --seconds is too short")
            whole = [step for step in seen if step < 1.5 * typical]
            print(
                f"{name:<28} {label:<8} {statistics.median(whole) * 1e3:6.0f} ms, {len(whole)} steps",
                flush=True,
            )
    finally:
        for process, _ in running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def check(label: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Stop with the end of its output where a training ended.

    Args:
        label: Of the checkout.
        process: Its training.
        log: Its file of steps.
    """
    if process.poll() is not None:
        sys.exit(f"{label}: the training ended:\n{log.with_suffix('.log').read_text()[-2000:]}")


def steps_of(log: Path) -> list[float]:
    """Return the seconds of the steps so far."""
    return [float(line) for line in log.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Compare the configs one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", help="another checkout; with --child the log of the steps")
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--folder", type=Path, default=Path(), help="with data/toy in it")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each config, both checkouts together")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return train_and_log(args.configs[0], Path(args.other))
    checkouts = {"here": HERE.parents[1], "other": Path(args.other).resolve()}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.configs:
            compare(name, checkouts, args.folder.resolve(), args.seconds, Path(folder))


if __name__ == "__main__":
    main()
