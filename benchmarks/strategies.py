"""Memory per rank and traffic per step of a training strategy, next to the formulae of docs/distributed.md.

Trains a plain transformer of a chosen size for a few steps with AdamW in float32 on CPU ranks. Memory is that
of all tensors alive between two steps; traffic is what the network card counts, of one rank, in one step.

    torchrun --nproc-per-node 2 benchmarks/strategies.py --strategy deepspeed-zero2 --card lo
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel

from rsfoundation.engine.distributed.launch import init_distributed
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.resolve_config import use_strategy
from rsfoundation.registry import STRATEGIES

# Bytes per parameter between steps with AdamW in float32, n ranks: weights, then moments and masters.
# DeepSpeed keeps float32 masters next to float32 weights; only zero3 keeps its shards of the gradients.
MEMORY = {
    "ddp": lambda n: 4 + 8,
    "fsdp": lambda n: (4 + 8) / n,
    "deepspeed-zero1": lambda n: 4 + (4 + 8) / n,
    "deepspeed-zero2": lambda n: 4 + (4 + 8) / n,
    "deepspeed-zero3": lambda n: (4 + 4 + 4 + 8) / n,
}
# Bytes sent per parameter and step by ring collectives: gradients averaged, weights gathered once or twice.
TRAFFIC = {
    "ddp": lambda n: 2 * 4 * (n - 1) / n,
    "fsdp": lambda n: 3 * 4 * (n - 1) / n,
    "deepspeed-zero1": lambda n: 2 * 4 * (n - 1) / n,
    "deepspeed-zero2": lambda n: 2 * 4 * (n - 1) / n,
    "deepspeed-zero3": lambda n: 3 * 4 * (n - 1) / n,
}


class Plain(BaseModel):
    """``layers`` transformer blocks of ``width`` channels."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__(data_preprocessor=BaseDataPreprocessor())
        block = torch.nn.TransformerEncoderLayer
        self.blocks = torch.nn.Sequential(
            *(block(width, 4, 4 * width, dropout=0.0, batch_first=True) for _ in range(layers))
        )

    def forward(self, inputs: torch.Tensor, mode: str = "loss") -> dict[str, torch.Tensor]:
        """Return the mean square of the last block's output."""
        return {"loss": self.blocks(inputs).square().mean()}


def build(name: str, model: BaseModel, steps: int) -> Any:
    """Return the prepared strategy called ``name``."""
    cfg = Config({})
    use_strategy(cfg, name)
    common = dict(work_dir=tempfile.mkdtemp(), env_kwargs=dict(launcher="pytorch", randomness=dict(seed=0)))
    wrapper = dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False)
    chosen = cfg.strategy or dict(type="DDPStrategy", model_wrapper=wrapper)
    strategy = STRATEGIES.build({**chosen, **common, "log_kwargs": dict(log_level="ERROR")})
    options = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3))
    counts = dict(train_micro_batch_size_per_gpu=1, max_iters=steps, max_epochs=1, epoch_length=steps)
    strategy.prepare(model, optim_wrapper=options, dispatch_kwargs=counts)
    return strategy


def alive() -> int:
    """Return the bytes of every tensor of this process."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if isinstance(item, torch.Tensor):
            for tensor in (item, item.grad if item.is_leaf else None):
                if tensor is not None:
                    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
                    storage = local.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def sent(card: str) -> int:
    """Return the bytes that a network card has sent so far."""
    return int(Path(f"/sys/class/net/{card}/statistics/tx_bytes").read_text())


def main() -> None:
    """Train and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategy", choices=MEMORY, required=True)
    parser.add_argument("--card", default=os.environ.get("GLOO_SOCKET_IFNAME", "lo"))
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    use_device("cpu")
    init_distributed("pytorch", "cpu", Config({}))
    model = Plain(arguments.width, arguments.layers)
    count = sum(parameter.numel() for parameter in model.parameters())
    strategy = build(arguments.strategy, model, arguments.steps)
    batch = dict(inputs=torch.randn(1, 16, arguments.width))
    marks = []
    for _ in range(arguments.steps):
        dist.barrier()
        marks.append((sent(arguments.card), time.monotonic()))
        strategy.model.train_step(batch, optim_wrapper=strategy.optim_wrapper)
    dist.barrier()
    marks.append((sent(arguments.card), time.monotonic()))
    ranks = dist.get_world_size()
    # the first step also meets; the card named `lo` counts what all ranks of the host send
    bytes_sent = (marks[-1][0] - marks[1][0]) / (len(marks) - 2) / (ranks if arguments.card == "lo" else 1)
    if dist.get_rank() == 0:
        report = {
            "strategy": arguments.strategy,
            "ranks": ranks,
            "parameters": count,
            "memory_mb": round(alive() / 1e6, 1),
            "memory_by_formula_mb": round(MEMORY[arguments.strategy](ranks) * count / 1e6, 1),
            "sent_mb": round(bytes_sent / 1e6, 1),
            "sent_by_formula_mb": round(TRAFFIC[arguments.strategy](ranks) * count / 1e6, 1),
        }
        print(json.dumps(report), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
