"""Resuming a ZeRO run with another number of ranks or stage: every master and moment is cut anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rsfoundation.engine.checkpointing.zero_layout import Weight, gather, open_optimizer, open_zero
from rsfoundation.io.checkpoints import read_checkpoint


def read_masters(optimizer: Any) -> list[torch.Tensor]:
    """Return the masters themselves, one flat tensor per group (stages 1, 2) or sub-group (stage 3)."""
    if _is_stage3(optimizer):
        return list(optimizer.fp32_partitioned_groups_flat)
    return list(optimizer.single_partition_of_fp32_groups)


def publish_masters(optimizer: Any) -> None:
    """Copy the masters into the model's parameters, as at the end of a step."""
    if not _is_stage3(optimizer):
        optimizer.update_lp_params()
        return
    for index in range(len(optimizer.fp32_partitioned_groups_flat)):
        optimizer._reassign_or_swap_out_partitioned_parameters(index)
    if optimizer.persistent_parameters:
        optimizer.persistent_parameters[0].partition(optimizer.persistent_parameters)
        optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)


def save_form(optimizer: Any, groups: list[torch.Tensor]) -> list[torch.Tensor]:
    """Bring tensors shaped like the masters into the form in which the masters are saved.

    Args:
        optimizer: DeepSpeed's ZeRO optimiser.
        groups: One flat tensor per parameter group of this rank.
    """
    return groups if _is_stage3(optimizer) else list(optimizer._get_groups_without_padding(groups))


def load_form(optimizer: Any, saved: list[torch.Tensor]) -> list[torch.Tensor]:
    """Undo :func:`save_form`: pad each saved group to the length of its master.

    Args:
        optimizer: DeepSpeed's ZeRO optimiser.
        saved: One tensor per parameter group, as saved.
    """
    padded = []
    for master, group in zip(read_masters(optimizer), saved, strict=True):
        whole = torch.zeros_like(master)
        whole[: group.numel()] = group.to(master.device)
        padded.append(whole)
    return padded


def _is_stage3(optimizer: Any) -> bool:
    return hasattr(optimizer, "fp32_partitioned_groups_flat")


_DEEPSPEED_KEPT = ("global_steps", "global_samples", "skipped_steps")


def is_cut_alike(engine: Any, folder: Path) -> bool:
    """Say whether a folder was written by as many ranks, under a stage that cuts as the engine's does.

    Args:
        engine: DeepSpeed's engine.
        folder: The checkpoint folder.
    """
    ranks = len(list(folder.glob("*_optim_states.pt")))
    stage3 = not (folder / "mp_rank_00_model_states.pt").is_file()
    return ranks == dist.get_world_size() and stage3 == (engine.zero_optimization_stage() == 3)


def resume_from_other_ranks(engine: Any, folder: Path) -> dict[str, Any]:
    """Fill a DeepSpeed engine from a folder that another number of ranks, or another stage, wrote.

    Args:
        engine: DeepSpeed's engine; filled in place.
        folder: The checkpoint folder.

    Returns:
        What the runner had added to the checkpoint.
    """
    raw = {weight.name: weight for weight in open_zero(folder, averaged=False).weights}
    _fill_untrained(engine, raw)
    saved = open_optimizer(folder)
    names = {parameter: name for name, parameter in engine.module.named_parameters()}
    content = dict(read_checkpoint(next(iter(sorted(folder.glob("*_model_states.pt"))))))
    if (folder / "ema_rank_0.pt").is_file():
        averages = {weight.name: weight for weight in open_zero(folder, averaged=True).weights}
        groups = [_share(engine, layout, names, averages) for layout in _layouts(engine.optimizer)]
        steps = read_checkpoint(folder / "ema_rank_0.pt")["steps"]
        content["ema_shards"] = {"steps": steps, "groups": save_form(engine.optimizer, groups)}
    inner = engine.optimizer.optimizer
    for master, layout in zip(read_masters(engine.optimizer), _layouts(engine.optimizer), strict=True):
        master.data.copy_(_share(engine, layout, names, raw))
        inner.state[master] = {
            key: _share(engine, layout, names, weights).to(master.device)
            for key, weights in saved.moments.items()
        }
        for key, value in saved.numbers.items():
            inner.state[master][key] = value.clone() if isinstance(value, torch.Tensor) else value
    for group, settings in zip(inner.param_groups, saved.groups, strict=True):
        group.update(settings)
    publish_masters(engine.optimizer)
    for key in _DEEPSPEED_KEPT:
        setattr(engine, key, content.get(key, getattr(engine, key)))
    return content


def _fill_untrained(engine: Any, weights: Mapping[str, Weight]) -> None:
    """Copy buffers and frozen parameters."""
    import deepspeed

    for name, buffer in engine.module.named_buffers():
        if name in weights:
            buffer.copy_(gather(weights[name]))
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad or name not in weights:
            continue
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if dist.get_rank() == 0 or not hasattr(parameter, "ds_id"):
                parameter.data.copy_(gather(weights[name]))


def _layouts(optimizer: Any) -> Iterator[list[tuple[Any, int]]]:
    """Yield, for each master, its parameters in order and the gap after each."""
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):
        for group in optimizer.fp16_groups:
            yield [(parameter, 0) for parameter in group]
        return
    for index, group in enumerate(optimizer.round_robin_bit16_groups):
        gaps = getattr(optimizer, "round_robin_bit16_padding", None)
        yield list(zip(group, gaps[index] if gaps else [0] * len(group), strict=True))


def _share(
    engine: Any,
    layout: list[tuple[Any, int]],
    names: Mapping[torch.Tensor, str],
    weights: Mapping[str, Weight],
) -> torch.Tensor:
    """TilingSettings this rank's part out of whole tensors, as a flat float32 vector like its master."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if hasattr(engine.optimizer, "fp32_partitioned_groups_flat"):
        whole = [gather(weights[names[parameter]]).view(-1) for parameter, _ in layout]
        sizes = [parameter.ds_tensor.ds_numel * ranks for parameter, _ in layout]
        parts = [_padded(flat, size).view(ranks, -1)[rank] for flat, size in zip(whole, sizes, strict=True)]
        return torch.cat(parts)
    flats = [_padded(gather(weights[names[item]]).view(-1), item.numel() + gap) for item, gap in layout]
    index = next(i for i, other in enumerate(_layouts(engine.optimizer)) if other[0][0] is layout[0][0])
    size = read_masters(engine.optimizer)[index].numel()
    return _padded(torch.cat(flats), size * ranks)[rank * size : (rank + 1) * size]


def _padded(flat: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(flat, (0, length - flat.numel()))
