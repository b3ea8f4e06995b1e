"""The float32 masters that a ZeRO optimiser keeps on this rank, for all three stages.

Names of DeepSpeed's attributes: ``deepspeed/runtime/zero/stage_1_and_2.py`` and ``stage3.py``, 0.16 to 0.19.
"""

from __future__ import annotations

from typing import Any

import torch


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
    """Bring tensors shaped like the masters into the form in which the masters are saved."""
    return groups if _is_stage3(optimizer) else list(optimizer._get_groups_without_padding(groups))


def load_form(optimizer: Any, saved: list[torch.Tensor]) -> list[torch.Tensor]:
    """Undo :func:`save_form`: pad each saved group to the length of its master."""
    padded = []
    for master, group in zip(read_masters(optimizer), saved, strict=True):
        whole = torch.zeros_like(master)
        whole[: group.numel()] = group.to(master.device)
        padded.append(whole)
    return padded


def _is_stage3(optimizer: Any) -> bool:
    return hasattr(optimizer, "fp32_partitioned_groups_flat")
