"""Image encoders of instance segmentation, side by side: SAMViT and RSMamba against transformers' SAM.

    python benchmarks/instance.py [--only sam mamba growth training] [--threads 2] [--repeats 3] [--json FILE]

One image, float32, evaluation, random weights; calls alternate in one process, medians are printed.

- ``sam``: SAM ViT-B of transformers and of this package with the same weights. Outputs are compared at the
  timed size first (2e-5 of the largest value).
- ``mamba``: RSMamba base (two directions) against transformers' SAM ViT-B, and against the same RSMamba with
  its scan as a plain loop over tokens, whose output is compared first (2e-4).
- ``growth``: seconds and peak memory of each encoder by image size, each in a process of its own. Memory is
  the highest resident size during the forward minus that before it.
- ``training``: seconds of a step of AdamW and the highest resident size of the whole process, for
  RSPrompter-anchor on RSMamba base (RS4D's config for NWPU VHR-10 at 512 px, encoder trained), one image with
  ten objects.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from rsfoundation.models.encoders.rsmamba import MambaMixer, RSMamba
from rsfoundation.models.encoders.sam_vit import SAMViT

SIZE = 1024
SIZES = (512, 1024, 1536, 2048)
ENCODERS = ("rsmamba", "samvit", "transformers")
BENCHES = ("sam", "mamba", "growth", "training")
TRAINED = "rs4d/rsmamba_b_rs4d_prompt_800e_nwpu_512"


def randomise(model: nn.Module) -> nn.Module:
    """Draw weights that keep activations near one, tables of positions too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                value.normal_(0, 0.1)
            elif value.dim() > 1 and "A_log" not in name:
                value.normal_(0, value[0].numel() ** -0.5)
    return model.eval()


def transformers_vit(size: int) -> nn.Module:
    """SAM ViT-B of the installed transformers, with ``scaled_dot_product_attention``."""
    from transformers import SamVisionConfig, SamVisionModel

    return randomise(SamVisionModel(SamVisionConfig(image_size=size)).vision_encoder)


def build(name: str, size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the forward of an encoder for images of ``size``."""
    if name == "rsmamba":
        encoder = randomise(RSMamba("base", img_size=size, out_type="featmap"))
        return lambda image: encoder(image)[0]
    if name == "samvit":
        ours = randomise(SAMViT("base", image_size=size))
        return lambda image: ours(image)[0]
    theirs = transformers_vit(size)
    return lambda image: theirs(image).last_hidden_state


def plain_scan(mixer: MambaMixer, projected: torch.Tensor) -> torch.Tensor:
    """A mixer's convolution, scan and gate with one step of Python per token."""
    x, gate = projected.transpose(1, 2).chunk(2, dim=1)
    x = F.silu(mixer.conv1d(x)[..., : projected.shape[1]])
    split = [mixer.time_step_rank, mixer.state_size, mixer.state_size]
    steps, b, c = mixer.x_proj(x.transpose(1, 2)).split(split, dim=-1)
    delta = F.softplus(mixer.dt_proj(steps)).transpose(1, 2)
    rates, state, outputs = -mixer.A_log.exp(), x.new_zeros(*x.shape[:2], mixer.state_size), []
    for t in range(projected.shape[1]):
        step = delta[:, :, t, None]
        state = torch.exp(step * rates) * state + step * x[:, :, t, None] * b[:, None, t]
        outputs.append((state * c[:, None, t]).sum(-1))
    y = torch.stack(outputs, dim=-1) + mixer.D[:, None] * x
    return (y * F.silu(gate)).transpose(1, 2)


class PlainRSMamba(nn.Module):
    """An RSMamba whose mixers scan with :func:`plain_scan`, both directions as one batch."""

    def __init__(self, encoder: RSMamba) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the last map."""
        encoder = self.encoder
        tokens, _ = encoder.embed(image)
        for mixer in encoder.layers:
            both = encoder.pre_norm(torch.cat([tokens, tokens.flip(1)]))
            forth, back = mixer.out_proj(plain_scan(mixer, mixer.in_proj(both))).chunk(2)
            tokens = tokens + (forth + back.flip(1)) / 2
        return encoder.to_map(encoder.ln1(tokens), encoder.token_grid(image.shape[2:]))


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference as a fraction of the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def seconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Time calls in turn; return median seconds by the clock and of processor time."""
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            rounds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (statistics.median(w for w, _ in times), statistics.median(c for _, c in times))
        for name, times in rounds.items()
    }


def check(name: str, worst: float, tolerance: float) -> None:
    """Stop where outputs differ."""
    print(f"{name}: outputs differ by {worst:.1e} of the largest value (limit {tolerance:.0e})", flush=True)
    if not worst <= tolerance:
        raise SystemExit("outputs differ")


def print_rows(times: dict[str, tuple[float, float]], base: str) -> None:
    """Print seconds and the ratio to ``base``, by the clock and by processor time."""
    for name, (wall, cpu) in times.items():
        ratio = f"{times[base][0] / wall:7.2f}x {times[base][1] / cpu:7.2f}x"
        print(f"{name:34}{wall:9.2f} s {cpu:9.2f} s cpu   {base} / this: {ratio}", flush=True)


def bench_sam(repeats: int) -> dict[str, tuple[float, float]]:
    """SAM ViT-B against transformers'."""
    theirs, ours = transformers_vit(SIZE), SAMViT("base").eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        check("SAM ViT-B", difference(ours(image)[0], theirs(image).last_hidden_state), 2e-5)
        calls = {"transformers": lambda: theirs(image), "SAMViT": lambda: ours(image)}
        times = seconds(calls, repeats)
    print_rows(times, "transformers")
    return times


def bench_mamba(repeats: int) -> dict[str, tuple[float, float]]:
    """RSMamba against transformers' ViT-B, and against a plain loop over tokens."""
    encoder = randomise(RSMamba("base", out_type="featmap"))
    plain, theirs = PlainRSMamba(encoder), transformers_vit(SIZE)
    image = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        encoder(image)
        wall, cpu = time.perf_counter(), time.process_time()
        expected = plain(image)
        looped = (time.perf_counter() - wall, time.process_time() - cpu)
        check("RSMamba base", difference(encoder(image)[0], expected), 2e-4)
        calls = {"RSMamba": lambda: encoder(image), "transformers ViT-B": lambda: theirs(image)}
        times = {**seconds(calls, repeats), "RSMamba, loop over tokens (once)": looped}
    print_rows(times, "transformers ViT-B")
    print(f"loop over tokens / RSMamba: {looped[0] / times['RSMamba'][0]:.1f}x", flush=True)
    return times


def resident_bytes() -> int:
    """Return the present resident size of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def highest_bytes() -> int:
    """Return the highest resident size of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def measure_one(name: str, size: int, repeats: int) -> None:
    """Print seconds and peak memory of one encoder at one size as JSON."""
    forward, image = build(name, size), torch.randn(1, 3, size, size)
    with torch.no_grad():
        if name == "rsmamba":
            forward(torch.randn(1, 3, 64, 64))  # compiles kernels
        before = resident_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # the highest size starts over
        times = seconds({name: lambda: forward(image)}, repeats)[name]
    print(json.dumps(dict(seconds=times[0], cpu=times[1], bytes=highest_bytes() - before)))


def bench_growth(repeats: int, threads: int, sizes: list[int]) -> list[dict]:
    """Seconds and memory by image size; a size that does not fit the machine's memory is left out."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    rows = []
    print(f"{'encoder':14}{'size':>6}{'s':>9}{'s / 1k tokens':>15}{'MiB':>9}{'MiB / 1k tokens':>17}")
    for name in ENCODERS:
        for size in sizes:
            tokens = (size // 16) ** 2
            if name == "transformers" and 2.5 * 12 * 4 * tokens**2 > free:  # scores of twelve heads
                print(f"{name:14}{size:6}   left out: its scores of {tokens} tokens exceed the free memory")
                continue
            command = [sys.executable, __file__, "--one", name, str(size), "--repeats", str(repeats)]
            done = subprocess.run(
                [*command, "--threads", str(threads)], check=True, capture_output=True, text=True
            )
            row = dict(encoder=name, size=size, tokens=tokens, **json.loads(done.stdout.splitlines()[-1]))
            rows.append(row)
            mib, thousands = row["bytes"] / 2**20, tokens / 1000
            per_token = f"{row['seconds'] / thousands:15.3f}{mib:9.0f}{mib / thousands:17.1f}"
            print(f"{name:14}{size:6}{row['seconds']:9.2f}{per_token}", flush=True)
    return rows


def training_batch(size: int, objects: int) -> dict[str, list]:
    """Return one image with objects in rectangles."""
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    rng = np.random.default_rng(0)
    corners = rng.integers(0, size - 64, (objects, 2))
    boxes = np.concatenate([corners, corners + rng.integers(16, 64, (objects, 2))], axis=1)
    masks = np.zeros((objects, size, size), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    truth = InstanceData(
        bboxes=HorizontalBoxes(torch.from_numpy(boxes).float()),
        labels=torch.from_numpy(rng.integers(0, 10, objects)),
        masks=BitmapMasks(masks, size, size),
    )
    meta = dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0), img_id=0)
    sample = DetDataSample(metainfo=meta, gt_instances=truth)
    image = torch.from_numpy(rng.integers(0, 255, (3, size, size), dtype=np.uint8))
    return dict(inputs=[image], data_samples=[sample])


def measure_training(steps: int) -> None:
    """Print seconds of a training step, losses and the peak memory of the process as JSON."""
    from mmengine.registry import MODELS, init_default_scope

    from rsfoundation.engine.config import dicts_of, load_config

    cfg = load_config(TRAINED)
    for _, node in dicts_of(cfg.model):
        if "init_cfg" in node:
            node["init_cfg"] = None
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)
    loaded, batch, losses, times = highest_bytes(), training_batch(512, 10), [], []
    for _ in range(1 + steps):  # the first compiles kernels and makes the optimiser's state
        started = time.perf_counter()
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
        losses.append(loss.item())
    taken = statistics.median(times[1:])
    print(json.dumps(dict(seconds=taken, bytes=highest_bytes(), loaded_bytes=loaded, losses=losses)))


def bench_training(repeats: int, threads: int) -> dict:
    """Seconds and memory of training steps, in a process of their own."""
    command = [sys.executable, __file__, "--one", "training", "512", "--repeats", str(repeats)]
    done = subprocess.run([*command, "--threads", str(threads)], check=True, capture_output=True, text=True)
    row = json.loads(done.stdout.splitlines()[-1])
    print(
        f"training step of {TRAINED}: {row['seconds']:.2f} s, peak {row['bytes'] / 1e9:.2f} GB "
        f"(loaded model: {row['loaded_bytes'] / 1e9:.2f} GB)",
        flush=True,
    )
    return row


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one and options.one[0] == "training":
        measure_training(options.repeats)
        return
    if options.one:
        measure_one(options.one[0], int(options.one[1]), options.repeats)
        return
    import transformers

    versions = dict(torch=torch.__version__, transformers=transformers.__version__)
    conditions = dict(threads=options.threads, machine=platform.machine(), dtype="float32", **versions)
    print(f"one image, CPU, {conditions}")
    results: dict[str, object] = {}
    if "sam" in options.only:
        results["sam"] = bench_sam(options.repeats)
    if "mamba" in options.only:
        results["mamba"] = bench_mamba(options.repeats)
    if "growth" in options.only:
        results["growth"] = bench_growth(options.repeats, options.threads, options.sizes)
    if "training" in options.only:
        results["training"] = bench_training(options.repeats, options.threads)
    if options.json:
        options.json.write_text(json.dumps(dict(conditions, **results), indent=2))


if __name__ == "__main__":
    main()
