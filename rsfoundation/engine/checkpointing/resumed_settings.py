"""The config's optimiser settings and schedules hold after ``--resume``, not those of the checkpoint."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import HOOKS

# Progress of a scheduler; everything else in its state comes from the config.
_PROGRESS = {"_global_step", "last_step", "_last_value", "base_values", "verbose"}
_PROGRESS_OF_PLATEAU = {"best", "num_bad_epochs", "cooldown_counter", "min_values"}
_NAMED = 12  # changed values in the log


@HOOKS.register_module()
class ResumedSettingsHook(Hook):
    """Added to a resumed run: where config and checkpoint differ, the config holds and the log says so.

    mmengine restores optimiser groups and schedulers from the checkpoint, so that a changed rate, decay or
    schedule has no effect while ``config.py`` of the run folder records it. Here they are those of the
    config, and the schedules are replayed to the place of the checkpoint. Moments, weights and counters stay
    the checkpoint's. A run whose config did not change is restored as it was, bit for bit.
    """

    priority = "LOWEST"  # after the checkpoint hook has set the place where the loop resumes

    def before_run(self, runner: Runner) -> None:
        """Note the settings as the config builds them, before the checkpoint replaces them."""
        groups = runner.optim_wrapper.param_groups
        self._comparable = isinstance(groups, list)  # not those of several optimisers
        if self._comparable:
            self._groups = [_settings(group) for group in groups]
            self._schedules = [dict(scheduler.state_dict()) for scheduler in _schedulers(runner)]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse the state of another optimiser, which torch would load or fail on without a reason.

        Raises:
            ConfigError: The checkpoint's optimiser has other groups or is of another type.
        """
        saved = (checkpoint.get("optimizer") or {}).get("param_groups")
        if saved is None or not self._comparable:
            return
        own = [_settings(group) for group in runner.optim_wrapper.optimizer.param_groups]
        fix = "restore that part of the config, or start from the weights: load_from, without --resume"
        if len(own) != len(saved):
            raise ConfigError(
                f"the checkpoint's optimiser has {len(saved)} parameter groups, the config's has {len(own)}",
                where="optim_wrapper.paramwise_cfg",
                fix=fix,
            )
        absent, unknown = sorted(own[0].keys() - saved[0]), sorted(_settings(saved[0]).keys() - own[0])
        if absent and unknown:
            raise ConfigError(
                f"the checkpoint belongs to another optimiser: it has {', '.join(unknown)}, "
                f"the config's has {', '.join(absent)}",
                where="optim_wrapper.optimizer.type",
                fix=fix,
            )

    def before_train(self, runner: Runner) -> None:
        """Compare with the restored settings; let the config hold where they differ."""
        if not runner.iter or not self._comparable:
            return
        groups = runner.optim_wrapper.param_groups
        changed = _changed_groups(groups, self._groups)
        replay = any(name.startswith("initial_") for name, _, _ in changed)
        for index, (scheduler, fresh) in enumerate(zip(_schedulers(runner), self._schedules, strict=True)):
            differences = _changed_schedule(index, scheduler, fresh)
            changed += differences
            if _follows_metrics(scheduler):  # cannot be replayed: its own progress stays
                kept = _PROGRESS | _PROGRESS_OF_PLATEAU
                scheduler.load_state_dict({k: v for k, v in fresh.items() if k not in kept})
            else:
                replay = replay or bool(differences)
        for group, settings in zip(groups, self._groups, strict=True):
            group.update(_unscheduled(settings))
        if replay:
            self._replay(runner)
        if changed:
            print_log(_described(changed, groups), logger="current", level=logging.WARNING)

    def _replay(self, runner: Runner) -> None:
        """Step the schedules of the config as often as training has stepped them so far.

        Groups of equal settings have equal values all the way: one of each is stepped.
        """
        groups = runner.optim_wrapper.param_groups
        keys = [repr(sorted(settings.items())) for settings in self._groups]
        distinct = list(dict.fromkeys(keys))
        chosen = [keys.index(key) for key in distinct]
        stepped = [dict(self._groups[index]) for index in chosen]
        optimizer = SimpleNamespace(param_groups=stepped, step=_counted_step, _global_step=1)
        replayed = []
        for index, (scheduler, fresh) in enumerate(zip(_schedulers(runner), self._schedules, strict=True)):
            if _follows_metrics(scheduler):
                continue
            twin = copy.copy(scheduler)
            base_values = [fresh["base_values"][index] for index in chosen]
            twin.load_state_dict({**fresh, "optimizer": optimizer, "base_values": base_values})
            replayed.append((twin, _is_converted(runner, index), scheduler, fresh["base_values"]))
        _step_all(runner, [(twin, converted) for twin, converted, _, _ in replayed])
        for group, key in zip(groups, keys, strict=True):
            group.update(stepped[distinct.index(key)])
        for twin, _, scheduler, base_values in replayed:
            values = [group[scheduler.param_name] for group in groups]
            scheduler.load_state_dict(
                {**twin.state_dict(), "base_values": base_values, "_last_value": values}
            )


def _counted_step() -> None:
    """Replace the step of an optimiser that mmengine's schedulers have seen."""


_counted_step._with_counter = True  # type: ignore[attr-defined]  # mmengine warns without it


def _schedulers(runner: Runner) -> list[Any]:
    schedulers = runner.param_schedulers
    return schedulers if isinstance(schedulers, list) else []


def _follows_metrics(scheduler: Any) -> bool:
    return bool(getattr(scheduler, "need_val_args", False))


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "param_names", "group_name")}


def _unscheduled(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a group that no schedule changes."""
    return {key: value for key, value in settings.items() if f"initial_{key}" not in settings}


Change = tuple[str, Any, Any]  # name, value in the checkpoint, value in the config


def _changed_groups(restored: Sequence[dict[str, Any]], fresh: Sequence[dict[str, Any]]) -> list[Change]:
    found: dict[str, Change] = {}
    for old, new in zip(restored, fresh, strict=True):
        for key, value in _unscheduled(new).items():
            if key in old and not _equal(old[key], value):
                found.setdefault(repr((key, old[key], value)), (key, old[key], value))
    return list(found.values())


def _changed_schedule(index: int, scheduler: Any, fresh: dict[str, Any]) -> list[Change]:
    old, found = scheduler.state_dict(), []
    ignored = _PROGRESS | (_PROGRESS_OF_PLATEAU if _follows_metrics(scheduler) else set())
    for key in sorted((old.keys() | fresh.keys()) - ignored):
        before, now = old.get(key, "absent"), fresh.get(key, "absent")
        if not callable(now) and not _equal(before, now):
            found.append((f"param_scheduler[{index}].{key}", before, now))
    return found


def _equal(old: Any, new: Any) -> bool:
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return len(old) == len(new) and all(map(_equal, old, new))
    return bool(old == new)


def _described(changes: Sequence[Change], groups: Sequence[dict[str, Any]]) -> str:
    listed = [
        f"{name.removeprefix('initial_')} {_plain(new)} (checkpoint: {_plain(old)})"
        for name, old, new in changes[:_NAMED]
    ]
    more = f" and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    rates = sorted({float(group["lr"]) for group in groups})
    rate = f"{rates[0]:.4g}" + (f" to {rates[-1]:.4g}" if len(rates) > 1 else "")
    return (
        f"--resume: the config holds where it differs from the checkpoint: {', '.join(listed)}{more}; "
        f"training continues with learning rate {rate}"
    )


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, dict) else value  # milestones are a counter


def _is_converted(runner: Runner, index: int) -> bool:
    """Say whether a schedule was written in epochs and converted to iterations of this run."""
    declared = runner.cfg.get("param_scheduler")
    declared = [declared] if isinstance(declared, dict) else declared or []
    return index < len(declared) and bool(declared[index].get("convert_to_iter_based"))


def _step_all(runner: Runner, schedulers: Sequence[tuple[Any, bool]]) -> None:
    """Step schedulers as ``ParamSchedulerHook`` did up to where the run resumes.

    An epoch of another number of ranks had another number of iterations: schedules by iteration count those
    that were trained, converted ones count in epochs of this run.
    """
    loop = runner.train_loop
    rest = getattr(loop, "_skip", 0)
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    epochs = runner.epoch if by_epoch else 0
    trained = (runner.iter - rest) // epochs if epochs else 0
    length = len(loop.dataloader) if epochs else 0
    tail = {False: runner.iter - trained * epochs, True: rest if by_epoch else runner.iter}
    per_epoch = {False: trained, True: length}
    for _ in range(epochs):
        _step_iterations(schedulers, per_epoch)
        for scheduler, _converted in schedulers:
            if scheduler.by_epoch:
                scheduler.step()
    _step_iterations(schedulers, tail)


def _step_iterations(schedulers: Sequence[tuple[Any, bool]], counts: dict[bool, int]) -> None:
    for iteration in range(max(counts.values())):
        for scheduler, converted in schedulers:
            if not scheduler.by_epoch and iteration < counts[converted]:
                scheduler.step()
