"""Memory and time of turning a DeepSpeed checkpoint into one file, next to DeepSpeed's own script.

Makes a ZeRO checkpoint of the size asked for in code, lets both convert it, each in a process of its own,
compares what they wrote tensor by tensor and prints a table. Sizes are of the float32 weights.

    python benchmarks/zero_to_fp32.py --gb 4 --stage 3 --ranks 4 --json out.json
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 64 * 2**20  # elements of the largest tensor: 256 MB


def make_shapes(elements: int, largest: int = LARGEST) -> OrderedDict[str, torch.Size]:
    """Return shapes as a transformer has them, odd sizes among them, of at least ``elements`` in all."""
    shapes: OrderedDict[str, torch.Size] = OrderedDict()
    width = max(2, math.isqrt(largest // 4))
    total = 0
    while total < elements:
        block = len(shapes) // 4
        for name, shape in (
            ("mlp.weight", (4 * width, width)),
            ("norm.weight", (width,)),
            ("odd.weight", (width + 1, 3)),
            ("attn.weight", (width, width)),
        ):
            shapes[f"blocks.{block}.{name}"] = torch.Size(shape)
            total += math.prod(shape)
    return shapes


def make_checkpoint(folder: Path, shapes: OrderedDict[str, torch.Size], stage: int, ranks: int) -> None:
    """Write a checkpoint folder laid out as DeepSpeed 0.16 to 0.19 do, of random weights, rank by rank."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    module = {"seen": torch.tensor(7), "running": torch.randn(5)}
    state = {
        "module": {**module, **dict.fromkeys(shapes, torch.empty(0))},
        "buffer_names": list(module),
        "param_shapes": [shapes],
        "frozen_param_shapes": None,
        "frozen_param_fragments": None,
        "shared_params": {},
        "ds_version": "0.19.8",
        "dp_world_size": ranks,
        "mp_world_size": 1,
        "meta": {"epoch": 1, "dataset_meta": {"classes": ("a", "b")}},
    }
    total = sum(map(math.prod, shapes.values()))
    share = math.ceil(total / (2 * ranks)) * 2
    for rank in range(ranks):
        optimizer: dict[str, object] = {"zero_stage": stage, "partition_count": ranks, "ds_version": "0.19.8"}
        if stage == 3:
            parts = [math.ceil(math.prod(shape) / ranks) for shape in shapes.values()]
            optimizer["fp32_flat_groups"] = [torch.randn(sum(parts))]
            torch.save(state, folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
        else:
            length = min(share, total - rank * share)
            optimizer["partition_count"] = [ranks]
            optimizer["single_partition_of_fp32_groups"] = [torch.randn(length)]
            if rank == 0:
                torch.save(state, folder / "mp_rank_00_model_states.pt")
        torch.save(
            {"optimizer_state_dict": optimizer, "ds_config": {}, "ds_version": "0.19.8"},
            folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
        )
        del optimizer


_OURS = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from rsfoundation.engine.checkpointing.zero_conversion import convert_zero
convert_zero(Path({source!r}), Path({output!r}), {tag!r})
"""
_THEIRS = """
from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_fp32_state_dict as convert
convert({source!r}, {output!r}, max_shard_size="5GB", safe_serialization={safe}, tag={tag!r})
"""
_MEASURE = """
import json, resource, time
start = time.monotonic()
{code}
took = time.monotonic() - start
print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def measure(code: str) -> tuple[float, float]:
    """Run ``code`` in a fresh interpreter; return its seconds and its peak memory in GiB."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(code=code)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    seconds, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, peak


def drop_caches(folder: Path) -> None:
    """Write files out and let the system forget them, so that each reads from disk."""
    import os

    for file in folder.rglob("*.pt"):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def equal(ours: Path, theirs: Path) -> float:
    """Return the largest difference between what both wrote; every tensor must be in both."""
    from safetensors import safe_open

    worst, seen = 0.0, 0
    with safe_open(ours, "pt") as mine:
        for part in sorted(theirs.glob("*.safetensors")):
            with safe_open(part, "pt") as other:
                for name in other.keys():  # noqa: SIM118
                    difference = mine.get_tensor(name).float() - other.get_tensor(name).float()
                    worst, seen = max(worst, difference.abs().max().item()), seen + 1
        if seen != len(mine.keys()):
            raise SystemExit(f"{len(mine.keys())} tensors against {seen}")
    return worst


def main() -> None:
    """Make, convert, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=4.0, help="size of the float32 weights")
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), default=3)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--work", type=Path, help="folder for three times that size; a temporary one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as place:
        work, tag = Path(place), "global_step1"
        shapes = make_shapes(int(arguments.gb * 1e9 / 4))
        maker = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        maker += "from pathlib import Path; import zero_to_fp32 as z\n"
        maker += (
            f"z.make_checkpoint(Path({str(work / tag)!r}), z.make_shapes({int(arguments.gb * 1e9 / 4)}), "
        )
        measure(maker + f"{arguments.stage}, {arguments.ranks})")
        rows = {}
        for name, code, output in (
            ("rsf, .safetensors", _OURS, "ours.safetensors"),
            ("rsf, .pth", _OURS, "ours.pth"),
            ("DeepSpeed, safetensors", _THEIRS, "theirs"),
        ):
            drop_caches(work)
            script = code.format(
                root=str(ROOT), source=str(work), output=str(work / output), tag=tag, safe=True
            )
            rows[name] = measure(script)
            if output == "ours.pth":
                (work / output).unlink()
        worst = equal(work / "ours.safetensors", work / "theirs")
    largest = max(map(math.prod, shapes.values())) * 4 / 2**30
    report = {
        "weights_gb": arguments.gb,
        "largest_tensor_gib": largest,
        "stage": arguments.stage,
        "ranks": arguments.ranks,
        "largest_difference": worst,
        "rows": {name: {"seconds": row[0], "peak_gib": row[1]} for name, row in rows.items()},
        "torch": torch.__version__,
        "machine": platform.platform(),
        "time": time.strftime("%Y-%m-%d"),
    }
    print(
        f"{arguments.gb} GB of weights, ZeRO {arguments.stage}, {arguments.ranks} ranks, largest tensor ",
        end="",
    )
    print(f"{largest:.2f} GiB; largest difference {worst}; imports included")
    for name, (seconds, peak) in rows.items():
        print(f"{name:<26} {seconds:8.1f} s {peak:8.2f} GiB peak")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
