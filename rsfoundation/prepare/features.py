"""Maps of a teacher computed once and kept on disk, for trainings that need not run it again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, init_default_scope
from torch.utils.data import DataLoader, Subset

from rsfoundation.core.choices import FeatureFormat
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.parallel import with_progress
from rsfoundation.engine.config import load_config
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.resolve_config import use_image_loading
from rsfoundation.io.feature_cache import FeatureWriter, packed_bytes
from rsfoundation.models.distill.teachers import FrozenTeacher, encode, preprocessing_of
from rsfoundation.registry import MODELS

_RANDOM = ("random", "photo")  # parts of the names of steps that change from epoch to epoch


@dataclass(frozen=True)
class PreparedFeatures:
    """What a cache holds now.

    Attributes:
        out: Its folder.
        computed: Maps computed by this run.
        kept: Maps of an earlier run that were whole.
        damaged: Maps of an earlier run that were damaged, and computed again where there is their image.
        stale: Maps in the cache of images that the data set no longer has; only with a single part.
        bytes_per_map: Size of one map on disk.
    """

    out: Path
    computed: int
    kept: int
    damaged: int
    stale: int
    bytes_per_map: int


def prepare_features(
    config: str | Path | Config,
    out: Path,
    form: FeatureFormat = "int8",
    max_gib: float = 100.0,
    part: tuple[int, int] = (0, 1),
    device: str = "auto",
    batch: int = 4,
    workers: int = 2,
    overrides: tuple[str, ...] = (),
) -> PreparedFeatures:
    """Compute the teacher's map of every training and validation image of a distillation config.

    A killed run continues: what is whole is kept. Damaged maps are found and computed again.

    Args:
        config: A config of a ``FeatureDistiller``; its teacher, or the one that its cache must come from.
        out: Folder of the cache.
        form: ``int8`` with a scale per channel, ``fp16`` or ``fp32``.
        max_gib: Refuse to start where the cache would be larger.
        part: ``(i, n)``: every n-th image from the i-th on, so that n processes share the work.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch: Images at once.
        workers: Processes that load images.
        overrides: ``key=value`` changes of the config.

    Raises:
        ConfigError: The config has no teacher, or random steps in its pipeline.
        DataError: The cache has another teacher or preprocessing, or would be too large.
    """
    cfg = config if isinstance(config, Config) else load_config(config, overrides)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    described = dict(cfg.model.get("teacher") or {})
    if str(described.get("type", "")).endswith("CachedFeatures"):
        described = dict(described.get("teacher") or {})
    if not described:
        raise ConfigError(
            "the config names no teacher",
            where=f"{cfg.filename}: model.teacher",
            fix="name a config of configs/distill, and its teacher in CachedFeatures(teacher=...)",
        )
    use_image_loading(cfg)
    sets = [_dataset(cfg, name) for name in ("train_dataloader", "val_dataloader") if cfg.get(name)]
    kind = use_device(device)
    frozen = FrozenTeacher(described, int(cfg.model.get("teacher_seed", 0)))
    teacher = frozen.load().to(kind)
    preprocessor = MODELS.build(dict(cfg.model.data_preprocessor)).to(kind)
    description = dict(
        teacher=frozen.hash,
        preprocessing=preprocessing_of(preprocessor),
        channels=int(teacher.out_channels[-1]),
        format=form,
    )
    writer = FeatureWriter(out, description, f"part{part[0]}of{part[1]}")
    counts = dict(computed=0, kept=0)
    seen: set[str] = set()
    size = 0
    total = sum(len(range(part[0], len(one), part[1])) for one in sets)
    batches = _batches(sets, part, batch, workers)
    for loaded in with_progress(batches, total=-(-total // batch), title="features"):
        keys = [sample.metainfo["image_key"] for sample in loaded["data_samples"]]
        places = {key: place for place, key in enumerate(keys) if key not in writer}
        counts["kept"] += sum(key in writer for key in set(keys) - seen)
        seen.update(keys)
        if not places:
            continue
        data = preprocessor(loaded, False)
        with torch.inference_mode():
            maps = encode(teacher, data["inputs"][list(places.values())])[0].float().cpu().numpy()
        if not size:
            size = packed_bytes(maps.shape[1:], form)
            _check_size(size * total, max_gib, out)
        writer.add(dict(zip(places, maps, strict=True)))
        counts["computed"] += len(places)
    stale = len(writer.cache.entries.keys() - seen) if part[1] == 1 else 0
    if stale:
        MMLogger.get_current_instance().log(
            logging.WARNING, f"{out}: {stale} maps belong to images that the data set no longer has"
        )
    return PreparedFeatures(out, counts["computed"], counts["kept"], writer.damaged, stale, size)


def _dataset(cfg: Config, name: str) -> Any:
    described = dict(cfg[name].dataset)
    steps = [dict(step) for step in described["pipeline"]]
    for step in steps:
        kind = str(step["type"]).rsplit(".", 1)[-1].lower()
        if any(part in kind for part in _RANDOM):
            raise ConfigError(
                f"the step {step['type']} gives another view each time, and a cache holds one",
                where=f"{name}.dataset.pipeline",
                fix="leave it out, or train with the live teacher",
            )
    if not any(str(step["type"]).endswith("ImageKey") for step in steps):
        steps.insert(len(steps) - 1, dict(type="rsfoundation.ImageKey"))
    return DATASETS.build({**described, "pipeline": steps})


def _batches(sets: list[Any], part: tuple[int, int], batch: int, workers: int) -> Iterator[dict[str, Any]]:
    for dataset in sets:
        chosen = Subset(dataset, range(part[0], len(dataset), part[1]))
        yield from DataLoader(chosen, batch, num_workers=workers, collate_fn=pseudo_collate)


def _check_size(needed: int, max_gib: float, out: Path) -> None:
    if needed > max_gib * 2**30:
        raise DataError(
            f"the cache would need {needed / 2**30:.1f} GiB, and {max_gib:g} are allowed",
            where=out,
            fix="--format int8, fewer images, or a larger --max-gib",
        )
