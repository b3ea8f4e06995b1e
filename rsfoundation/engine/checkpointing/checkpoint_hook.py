"""mmengine's checkpoint hook: files that are whole or not there, the best one by a metric that exists."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, barrier, is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.runner import Runner
from mmengine.utils import apply_to

from rsfoundation.core.errors import CheckpointError, ConfigError, nearest
from rsfoundation.engine.checkpointing.find import named_by_marker
from rsfoundation.io.checkpoints import aside, publish, remove, write_text
from rsfoundation.registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """``CheckpointHook`` whose files are whole or not there; arguments are mmengine's.

    A checkpoint is written under a hidden name in the same folder, brought to disk and renamed. Only then
    does ``last_checkpoint`` name it, and only then are older ones removed. It also keeps where each rank's
    random generators and the data are, from which :mod:`rsfoundation.engine.checkpointing.resume` continues.
    Stores other than file systems (``s3://``) are written as mmengine does.
    """

    out_dir: str
    file_backend: Any
    keep_ckpt_ids: deque[int]

    def before_train(self, runner: Runner) -> None:
        """Clear what a killed run left half written, and hand the loop what it resumes with."""
        super().before_train(runner)
        self._local = "://" not in str(self.out_dir)
        if self._local:
            self._keep_to_own_folder()
            self.file_backend = _LaterRemoval(self.file_backend)
            if _first_here():
                Path(self.out_dir).mkdir(parents=True, exist_ok=True)
                for left in Path(self.out_dir).glob(".*.part"):
                    remove(left)
        barrier()
        if runner.iter and hasattr(runner.train_loop, "resume_from"):
            runner.train_loop.resume_from(getattr(self, "_resumed", None))
        self._check_prefixes(runner)

    def _check_prefixes(self, runner: Runner) -> None:
        """Refuse a metric of the best checkpoint that no evaluator can report, before the first step."""
        if not self.save_best or runner.val_loop is None:
            return
        prefixes = [metric.prefix for metric in runner.val_evaluator.metrics]
        if not all(prefixes):
            return  # the first validation shows the names
        for name in self.key_indicators:
            if name != "auto" and not name.startswith(tuple(f"{prefix}/" for prefix in prefixes)):
                names = ", ".join(f"{prefix}/{name.rpartition('/')[2]}" for prefix in prefixes)
                raise ConfigError(
                    f"no evaluator reports the metric {name!r}: their metrics start with "
                    + ", ".join(f"'{prefix}/'" for prefix in prefixes),
                    where="default_hooks.checkpoint.save_best",
                    fix=f"name one of an evaluator, such as {names}, or 'auto'",
                )

    def _keep_to_own_folder(self) -> None:
        """Look for the best checkpoint so far in this run folder alone.

        mmengine 0.10.12 keeps its absolute path, and would remove the file of the original from a copied or
        moved run folder as soon as the copy is better.
        """
        here = Path(self.out_dir)
        best = getattr(self, "best_ckpt_path", None)
        if best:
            self.best_ckpt_path = str(here / Path(best).name)
        paths = getattr(self, "best_ckpt_path_dict", {})
        paths.update({key: str(here / Path(path).name) for key, path in paths.items() if path})

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep what the loop resumes with; let go of the file that the checkpoint is mapped from."""
        self._resumed = checkpoint.get("meta", {}).get("resume")
        if "optimizer" in checkpoint and runner._resume:
            checkpoint["optimizer"] = apply_to(
                checkpoint["optimizer"], lambda item: isinstance(item, torch.Tensor), torch.clone
            )

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        if not self._local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        runner = getattr(runner, "whole", runner)
        name = self.filename_tmpl.format(step)
        kept = [step]
        if self.max_keep_ckpts > 0:
            kept = [*(other for other in self.keep_ckpt_ids if other != step), step]
            runner.message_hub.update_info("keep_ckpt_ids", kept)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        _warn_of_gradients(runner)
        if hasattr(runner.train_loop, "resume_state"):
            meta["resume"] = runner.train_loop.resume_state(meta["epoch"], meta["iter"])
        options = {**self.args, "meta": meta, "by_epoch": self.by_epoch}
        self.write(
            runner,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            **options,
        )
        if is_main_process():
            write_text(Path(runner.work_dir) / "last_checkpoint", self.last_ckpt)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(kept[-self.max_keep_ckpts :], self.max_keep_ckpts)
            for old in kept[: -self.max_keep_ckpts] if _first_here() else ():
                remove(Path(self.out_dir) / self.filename_tmpl.format(old))

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, Any]) -> None:
        self._check_reported(runner, metrics)
        if not getattr(self, "_local", False):
            super()._save_best_checkpoint(runner, metrics)
            return
        super()._save_best_checkpoint(_Publishing(runner, self), metrics)
        best = getattr(self, "best_ckpt_path_dict", {None: getattr(self, "best_ckpt_path", None)})
        self.file_backend.remove_now(keep=set(best.values()))

    def _check_reported(self, runner: Any, metrics: dict[str, Any]) -> None:
        """Stop where the metric of the best checkpoint is not reported; what was trained is saved first."""
        names = self.key_indicators if self.save_best else []
        missing = [name for name in names if name != "auto" and name not in metrics]
        if not missing:
            return
        step = runner.epoch if self.by_epoch else runner.iter
        name = self.filename_tmpl.format(step)
        if runner.iter and (self.last_ckpt is None or Path(self.last_ckpt).name != name):
            self._save_checkpoint_with_step(runner, step, meta=dict(epoch=runner.epoch, iter=runner.iter))
        raise ConfigError(
            f"the evaluator does not report {missing[0]!r}, by which the best checkpoint is kept; "
            f"it reports {', '.join(metrics)}",
            where="default_hooks.checkpoint.save_best",
            fix=f"{nearest(missing[0], metrics)} continue from {name} with --resume and "
            "--cfg-options default_hooks.checkpoint.save_best=NAME (auto: the task's first metric)".strip(),
        )

    def write(self, runner: Any, name: str, **options: Any) -> None:
        """Write a checkpoint aside and publish it. Every rank must call it.

        Args:
            runner: The runner.
            name: File or folder name in the run folder.
            **options: Arguments of the runner's ``save_checkpoint``.

        Raises:
            CheckpointError: On every rank, if one cannot write; what was there before is left.
        """
        target = Path(self.out_dir) / name
        place = aside(target)
        fault = None
        try:
            if is_main_process() and not target.parent.is_dir():
                raise FileNotFoundError(f"the folder {target.parent} has vanished")
            runner.save_checkpoint(self.out_dir, place.name, **options)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
                raise
            fault = error
        self._agree(fault, target)
        # hosts may share the file system or not: the first rank publishes, then each host what it still finds
        for turn in (is_main_process(), _first_here()):
            try:
                if turn and place.exists():
                    publish(place, target)
            except OSError as error:
                fault = error
            self._agree(fault, target)

    def _agree(self, fault: Exception | None, target: Path) -> None:
        """Raise on every rank what went wrong on one."""
        faults = [text for text in all_gather_object(str(fault) if fault else None) if text]
        if not faults:
            return
        if _first_here() and target.parent.is_dir():
            remove(aside(target))
        raise CheckpointError(
            f"the checkpoint {target.name} cannot be written: {faults[0]}",
            where=target.parent,
            fix=f"make room or the folder writable, then go on with --resume (last complete one: "
            f"{named_by_marker(target.parent) or 'none'})",
        ) from fault


class _Publishing:
    """A runner to mmengine's code for best checkpoints, whose checkpoints the hook writes."""

    def __init__(self, runner: Any, hook: CheckpointHook) -> None:
        self.whole, self._hook = runner, hook

    def save_checkpoint(self, _out_dir: str, filename: str, **options: Any) -> None:
        """Write a checkpoint aside and publish it."""
        for name in ("file_client_args", "backend_args"):
            options.pop(name, None)
        self._hook.write(self.whole, filename, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


class _LaterRemoval:
    """A file backend that removes nothing before the successor is published."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._old: set[str] = set()

    def remove(self, path: str) -> None:
        """Note ``path`` for removal."""
        self._old.add(str(path))

    rmtree = remove

    def remove_now(self, keep: set[str]) -> None:
        """Remove what was noted, apart from ``keep``."""
        for path in self._old - keep:
            remove(Path(path))
        self._old.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def _warn_of_gradients(runner: Any) -> None:
    """Say that gradients which wait to be applied are in no checkpoint."""
    wrapper = runner.optim_wrapper
    if getattr(wrapper, "_accumulative_counts", 1) > 1 and not wrapper.should_update():
        runner.logger.warning(
            "this checkpoint is between two optimiser steps: a run resumed from it is not exact. "
            "Let the checkpoint interval be a multiple of accumulative_counts"
        )


def _first_here() -> bool:
    """Say whether this is the first rank of its host."""
    return is_main_process() or os.environ.get("LOCAL_RANK") == "0"
