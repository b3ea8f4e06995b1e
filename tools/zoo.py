"""Write the data of the model zoo, ``docs/zoo.json``: cost of every config, latency of every backbone.

``python tools/zoo.py`` counts what is new since the last time; ``--latency [PATTERN ...]`` times backbones
again on this machine, which should be quiet: each row names the conditions, and is kept once it is measured.
Published numbers are not stored: the page reads them from the headers of the configs. ``--toy`` records a
training that was run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from rich.progress import track

from rsfoundation.engine.benchmark import BenchmarkOptions, benchmark
from rsfoundation.engine.config import list_configs
from rsfoundation.engine.networks import list_backbones, network_complexity

FILE = Path(__file__).parents[1] / "docs" / "zoo.json"
COUNTED_AT = 512
TIMED_AT = 512


def main() -> None:
    """Update the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--latency", nargs="*", metavar="PATTERN", help="time the backbones of these names, or all, here"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of --latency")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of --latency")
    parser.add_argument(
        "--toy",
        nargs=4,
        metavar=("CONFIG", "METRIC", "VALUE", "SECONDS"),
        help="record a training that was run",
    )
    options = parser.parse_args()
    zoo: dict[str, Any] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    if options.toy:
        name, metric, value, seconds = options.toy
        zoo.setdefault("toy", {})[name] = {"metric": metric, "value": float(value), "seconds": float(seconds)}
    elif options.latency is not None:
        for name in track(_timed_names(options.latency), "timing"):
            rows = {row["name"]: row for row in zoo.get("latency", [])}
            rows[name] = _time(name, options.threads, options.repeats)
            zoo["latency"] = [row for _, row in sorted(rows.items())]
            _write(zoo)  # the next may run out of memory or time
    else:
        zoo["configs"] = _count(zoo.get("configs", {}))
    _write(zoo)


def _write(zoo: dict[str, Any]) -> None:
    FILE.write_text(json.dumps(zoo, indent=1, sort_keys=True) + "\n")


def _count(known: dict[str, Any]) -> dict[str, Any]:
    """Count the configs that are new; those that are gone are dropped.

    Args:
        known: Config name -> its counts.
    """
    counts = {}
    for name in track(sorted(list_configs()), "counting"):
        if name in known:
            counts[name] = known[name]
            continue
        try:
            counted = network_complexity(name, (COUNTED_AT, COUNTED_AT))
        except Exception as error:  # one config that cannot be counted must not lose the others
            print_log(f"{name}: not counted: {type(error).__name__}: {error}"[:300], "current")
            continue
        total = counted.total
        counts[name] = {"params": total.params, "trainable": total.trainable, "macs": total.macs}
        if counted.uncounted:
            counts[name]["uncounted"] = list(counted.uncounted)
    return counts


def _timed_names(patterns: Sequence[str] = ()) -> list[str]:
    """Return one file of each backbone: RGB, without the start from published weights, stages alone.

    Args:
        patterns: Of the names, as ``lwganet*``; all when empty.
    """
    names = [name for name in list_backbones() if not name.endswith(("_scratch", "_5band", "_all"))]
    return [name for name in names if not patterns or any(fnmatch(name, one) for one in patterns)]


def _time(name: str, threads: int, repeats: int) -> dict[str, Any]:
    options = BenchmarkOptions(size=(TIMED_AT, TIMED_AT), device="cpu", threads=threads, repeats=repeats)
    result = benchmark(name, options)
    return {"name": name, **asdict(result)}


if __name__ == "__main__":
    main()
