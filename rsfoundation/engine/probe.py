"""How good are frozen features? k nearest neighbours and a linear classifier on any backbone's outputs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import RunRequest
from rsfoundation.engine.checkpointing.find import find_checkpoint
from rsfoundation.engine.config import build_task, classes_of, explained_option_errors, load_config
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.resolve_config import RunOptions, resolve_config, run_folder
from rsfoundation.engine.results import TestResult
from rsfoundation.evaluation.classification import SceneEvaluation, evaluate_multi, evaluate_single
from rsfoundation.io.checkpoints import trusting
from rsfoundation.models.classifiers import SceneClassifier, pool
from rsfoundation.models.encoders.base import PlainEncoder
from rsfoundation.models.pretrained.download import resolve
from rsfoundation.models.pretrained.loading import load_checkpoint

_NEIGHBOURS, _TEMPERATURE = 20, 0.07  # those of DINO's evaluation (arXiv 2104.14294)
_QUERIES, _KEYS = 256, 16384  # similarities that are computed at once
_ROWS = 16384  # features that the linear classifier sees at once
_DECAYS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_HELD_OUT = 5  # every fifth training image chooses the weight decay
_STEPS = 100


def probe(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
) -> TestResult:
    """Measure the backbone of any checkpoint on the data of a recognition config, without training it.

    Features are means over the last map, of the training and the test set, both seen through the test
    pipeline. They are kept in files of the run folder, not in memory.

    Args:
        config: A recognition config; its backbone and data are used.
        checkpoint: Of any task with that backbone, or the name of published weights; the config's run folder
            when not given.
        options: Settings of the run.

    Returns:
        ``knn_...`` and ``linear_...`` metrics; ``probe.json`` in the run folder has the same.

    Raises:
        RSFError: The config is none of recognition, or nothing of the checkpoint fits its backbone.
    """
    started = time.monotonic()
    cfg = config if isinstance(config, Config) else load_config(config, options.overrides)
    if options.launcher != "none":
        raise ConfigError("a probe runs in one process", where="--launcher", fix="leave --launcher out")
    device = use_device(options.device)
    task = build_task(cfg)
    with ExitStack() as stack:
        if options.trust_checkpoint:
            stack.enter_context(trusting())
        place = checkpoint or run_folder(cfg, options)
        start = find_checkpoint(place) if Path(place).exists() else resolve(str(place))
        run = resolve_config(cfg, options, task, RunRequest("test"), device=device, start=start)
        stack.enter_context(explained_option_errors(run.cfg))
        init_default_scope(run.cfg.get("default_scope", "mmengine"))
        model = ROOT_MODELS.build(run.cfg.model)
        if not isinstance(model, SceneClassifier):
            raise ConfigError(
                f"--probe takes the config of a classifier, and this one builds a {type(model).__name__}",
                where=f"{cfg.filename}: model",
                fix="name a config of recognition with the same backbone: `rsf info configs recognition`",
            )
        prefix = "encoder." if isinstance(model.backbone, PlainEncoder) else ""
        report = load_checkpoint(model.backbone, str(start), prefix)
        if report.missing:
            MMLogger.get_current_instance().warning("%s: %s", start, report.summary())
        folder = Path(run.cfg.work_dir) / "probe"
        folder.mkdir(parents=True, exist_ok=True)
        model = model.to(device).eval()
        sets = [_features(model, run.cfg, part, folder) for part in ("train", "test")]
    (train, known, names), (test, truth, _) = sets
    multi = model.head.multi_label
    metrics: dict[str, float] = {}
    scored = {"knn": neighbours(train, known, test), "linear": linear(train, known, test, multi)}
    for kind, scores in scored.items():
        evaluation = _evaluate(scores, truth, names, multi)
        metrics.update({f"{kind}_{name}": value for name, value in evaluation.metrics.items()})
    result = TestResult(
        task=task.name,
        config=str(cfg.filename),
        checkpoint=str(start),
        metrics=metrics,
        details=dict(train_images=len(train), test_images=len(test), channels=int(train.shape[1])),
        seconds=time.monotonic() - started,
    )
    result.write(Path(run.cfg.work_dir) / "probe.json")
    return result


def _features(
    model: SceneClassifier, cfg: Config, part: str, folder: Path
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return features ``(N, C)`` in a file, targets ``(N, classes)`` of 0 and 1, and the class names."""
    loader_cfg = dict(cfg[f"{part}_dataloader"])
    loader_cfg["dataset"] = {
        **loader_cfg["dataset"],
        "pipeline": cfg.test_dataloader.dataset.pipeline,
        "test_mode": True,
    }
    loader_cfg.update(sampler=dict(type="DefaultSampler", shuffle=False), drop_last=False)
    loader = Runner.build_dataloader(loader_cfg, seed=0)
    names = classes_of(loader.dataset.metainfo).names
    count, width = len(loader.dataset), model.backbone.out_channels[-1]
    file = folder / f"{part}.npy"
    rows = np.lib.format.open_memmap(file, "w+", np.float32, (count, width))
    targets = np.zeros((count, len(names)), np.float32)
    done = 0
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        with torch.inference_mode():
            found = pool(model.extract_feat(data["inputs"])).float().cpu().numpy()
        rows[done : done + len(found)] = found
        for index, sample in enumerate(data["data_samples"], start=done):
            targets[index, sample.gt_label.cpu().numpy()] = 1
        done += len(found)
    rows.flush()
    return np.load(file, mmap_mode="r"), targets, names


def _parts(rows: np.ndarray, size: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the features in blocks, with the place of the first of each."""
    for start in range(0, len(rows), size):
        yield start, torch.from_numpy(np.array(rows[start : start + size]))


def neighbours(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return class scores ``(N, classes)``: votes of the nearest training images, by cosine similarity.

    Args:
        train: ``(M, C)``.
        targets: ``(M, classes)`` of 0 and 1.
        test: ``(N, C)``.
    """
    count, labels = min(_NEIGHBOURS, len(train)), torch.from_numpy(targets)
    scores = []
    for _, queries in _parts(test, _QUERIES):
        queries = F.normalize(queries, dim=1)
        best, places = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        for start, keys in _parts(train, _KEYS):
            similar = queries @ F.normalize(keys, dim=1).T
            found = torch.arange(start, start + len(keys)).expand(len(queries), -1)
            best, order = torch.cat([best, similar], 1).topk(min(count, best.shape[1] + len(keys)), 1)
            places = torch.cat([places, found], 1).gather(1, order)
        votes = (best / _TEMPERATURE).exp()
        scores.append((votes[..., None] * labels[places]).sum(1) / votes.sum(1, keepdim=True))
    return torch.cat(scores).numpy()


def linear(train: np.ndarray, targets: np.ndarray, test: np.ndarray, multi_label: bool) -> np.ndarray:
    """Return class scores ``(N, classes)`` of logistic regression on standardised features.

    The weight decay is the best of five on every fifth training image, which the final fit sees, too. The fit
    is convex and depends on no random numbers.

    Args:
        train: ``(M, C)``.
        targets: ``(M, classes)`` of 0 and 1.
        test: ``(N, C)``.
        multi_label: Whether images have any number of classes.
    """
    labels = torch.from_numpy(targets)
    centre, spread = torch.zeros(train.shape[1], dtype=torch.float64), torch.zeros(train.shape[1])
    for _, part in _parts(train, _ROWS):
        centre += part.double().sum(0) / len(train)
    for _, part in _parts(train, _ROWS):
        spread += (part.double() - centre).square().sum(0) / len(train)
    mean, scale = centre.float(), spread.add(1e-6).rsqrt()
    held_out = torch.arange(len(train)) % _HELD_OUT == 0
    weights = torch.zeros(train.shape[1] + 1, targets.shape[1])
    chosen, least = _DECAYS[0], float("inf")
    for decay in reversed(_DECAYS) if len(train) >= _HELD_OUT else ():
        weights = _fit(train, labels, ~held_out, mean, scale, decay, weights, multi_label)
        loss = float(_loss(train, labels, held_out, mean, scale, weights, multi_label))
        if loss < least:
            chosen, least = decay, loss
    everything = torch.ones(len(train), dtype=torch.bool)
    weights = _fit(train, labels, everything, mean, scale, chosen, torch.zeros_like(weights), multi_label)
    logits = torch.cat([_logits(part, mean, scale, weights) for _, part in _parts(test, _ROWS)])
    return (logits.sigmoid() if multi_label else logits.softmax(1)).numpy()


def _logits(
    rows: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    return ((rows - mean) * scale) @ weights[:-1] + weights[-1]


def _loss(
    train: np.ndarray,
    labels: torch.Tensor,
    used: torch.Tensor,
    mean: torch.Tensor,
    scale: torch.Tensor,
    weights: torch.Tensor,
    multi_label: bool,
) -> torch.Tensor:
    """Return the mean loss over the images used; the gradient of each block is added as it is computed."""
    total = torch.zeros(())
    for start, rows in _parts(train, _ROWS):
        chosen = used[start : start + len(rows)]
        logits, wanted = (
            _logits(rows[chosen], mean, scale, weights),
            labels[start : start + len(rows)][chosen],
        )
        if multi_label:
            loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / wanted.shape[1]
        else:
            loss = F.cross_entropy(logits, wanted, reduction="sum")
        loss = loss / used.sum()
        if weights.requires_grad:
            loss.backward()
        total += loss.detach()
    return total


def _fit(
    train: np.ndarray,
    labels: torch.Tensor,
    used: torch.Tensor,
    mean: torch.Tensor,
    scale: torch.Tensor,
    decay: float,
    start: torch.Tensor,
    multi_label: bool,
) -> torch.Tensor:
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = decay * weights[:-1].square().sum()
        penalty.backward()
        return _loss(train, labels, used, mean, scale, weights, multi_label) + penalty.detach()

    optimizer.step(closure)
    return weights.detach()


def _evaluate(
    scores: np.ndarray, truth: np.ndarray, names: tuple[str, ...], multi_label: bool
) -> SceneEvaluation:
    if multi_label:
        return evaluate_multi(scores, truth > 0, names)
    labels = truth.argmax(1)
    own = scores[np.arange(len(scores)), labels]
    ranks = (scores >= own[:, None]).sum(1) - 1
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (labels, scores.argmax(1)), 1)
    return evaluate_single(ranks, matrix, names)


def feature_of(output: Any) -> torch.Tensor:
    """Return the pooled feature ``(N, C)`` of whatever a backbone returned."""
    return pool((output.last_hidden_state,) if hasattr(output, "last_hidden_state") else output)
