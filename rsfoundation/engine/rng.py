"""The random generators of a process: Python's, numpy's and torch's, as one value."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def rng_state(device: bool = True) -> dict[str, Any]:
    """Return the state of every generator as plain values and tensors.

    Args:
        device: Include the generator of the current CUDA device where there is one.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if device and torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Bring every generator to a state of :func:`rng_state`."""
    kind, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


@contextmanager
def preserved_rng(device: bool = True) -> Iterator[None]:
    """Leave every generator as it was, whatever the body draws."""
    state = rng_state(device)
    try:
        yield
    finally:
        set_rng_state(state)


def seed_host(seed: int) -> None:
    """Seed the generators that data pipelines draw from; those of devices are left alone."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.default_generator.manual_seed(seed)


def mixed(*parts: int) -> int:
    """Return a seed of 63 bits that differs wherever one of ``parts`` does."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
