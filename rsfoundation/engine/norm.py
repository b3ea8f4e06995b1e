"""SyncBN needs several CUDA ranks; elsewhere it means BN."""

import logging
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log


def drop_sync_bn(cfg: Config) -> int:
    """Turn every ``type='SyncBN'`` of ``cfg.model`` into ``'BN'`` in place.

    Returns:
        How many were turned.
    """
    count = _replace(cfg.get("model"))
    if count:
        print_log(
            f"SyncBN needs several CUDA ranks: {count} norm configs use BN in this run",
            logger="current",
            level=logging.INFO,
        )
    return count


def _replace(node: Any) -> int:
    if isinstance(node, dict):
        here = int(node.get("type") in ("SyncBN", "MMSyncBN"))
        if here:
            node["type"] = "BN"
        return here + sum(_replace(value) for value in node.values())
    if isinstance(node, (list, tuple)):
        return sum(_replace(value) for value in node)
    return 0
