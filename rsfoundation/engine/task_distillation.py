"""A run whose model also learns from a trained model of the same task: the config block ``distill``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS as _ROOT
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.engine.checkpointing.find import config_of_checkpoint, find_checkpoint, read_saved
from rsfoundation.engine.model_builder import inference_model
from rsfoundation.engine.peft import find_part
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.models.distill.feature_distiller import with_our_scope
from rsfoundation.models.distill.imitation import Call, ImitationBatch, ImitationLoss
from rsfoundation.models.distill.teachers import preprocessing_of, weights_hash
from rsfoundation.registry import HOOKS, MODELS

_OWN = "distiller."  # start of the names of what is trained along with the student and dropped afterwards
_SAVED = "distiller"  # key of a checkpoint


@MODELS.register_module()
def with_distillation(
    model: Mapping[str, Any],
    teacher_checkpoint: str,
    losses: Sequence[Mapping[str, Any]],
    teacher_config: str | None = None,
    data_preprocessor: Any = None,
) -> nn.Module:
    """Build a model whose ``loss`` also compares it with a frozen teacher.

    The teacher is no module of the model: it is neither saved, sharded, averaged nor optimised.

    Args:
        model: Config of the student.
        teacher_checkpoint: File or run folder of the trained teacher.
        losses: Configs of losses: see :class:`rsfoundation.models.distill.imitation.ImitationLoss`.
        teacher_config: The teacher's config, a path or shipped name; ``config.py`` next to the checkpoint
            when not given.
        data_preprocessor: Goes to the student.

    Raises:
        RSFError: The teacher is missing or broken, expects other images, or a loss does not fit both models.
    """
    if data_preprocessor is not None:
        model = {"data_preprocessor": data_preprocessor, **model}
    network: Any = _ROOT.build(dict(model))
    if not callable(getattr(network, "loss", None)):
        raise ConfigError(
            f"{type(network).__name__} has no method loss(inputs, data_samples)",
            where="model.type",
            fix="distill detectors, segmentors and change models; `FeatureDistiller` distills backbones",
        )
    with torch.random.fork_rng():  # the student starts from the same weights as without a teacher
        teacher, classes = load_teacher(teacher_checkpoint, teacher_config)
    _check_preprocessing(network, teacher)
    distiller = TaskDistiller(network, teacher, losses, classes)
    network.distiller = distiller
    network.loss = functools.partial(distiller.total_loss, network.loss)
    return network


def load_teacher(checkpoint: str, config: str | None = None) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a trained model, frozen and in evaluation mode, and the names of its classes.

    Args:
        checkpoint: File or run folder.
        config: Path or shipped name; ``config.py`` next to the checkpoint when not given.

    Raises:
        RSFError: One of both is missing or broken, or they do not belong together.
    """
    try:
        file = find_checkpoint(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(
            f"the teacher has no checkpoint: {error.what}",
            where=f"distill.teacher_checkpoint: {checkpoint}",
            fix=f"train it first: rsf train {config or 'CONFIG'}; or name its checkpoint: "
            "--cfg-options distill.teacher_checkpoint=FILE",
        ) from error
    cfg = config_of_checkpoint(file, config)
    drop_sync_bn(cfg)  # equal in evaluation mode, and works on every device
    content = read_saved(file)
    try:
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            network, _ = inference_model(cfg, content, file)
    except CheckpointError as error:
        raise CheckpointError(
            error.what,
            where=f"distill.teacher_checkpoint: {file}",
            fix="distill.teacher_config=... the config that the teacher was trained with",
        ) from error
    names = ((content.get("meta") or {}).get("dataset_meta") or {}).get("classes") or ()
    return network.requires_grad_(False), tuple(names)


def _check_preprocessing(student: Any, teacher: Any) -> None:
    own, other = (preprocessing_of(one.data_preprocessor) for one in (student, teacher))
    odd = [key for key in own if own[key] != other[key]]
    if odd:
        raise ConfigError(
            f"{odd[0]} of the data preprocessors differ: the student has {own[odd[0]]}, the teacher "
            f"{other[odd[0]]}; both see the same images",
            where="model.data_preprocessor; distill.teacher_config",
            fix="give the student the teacher's data preprocessor",
        )


class _Outside:
    """Holds the teacher where neither modules nor copies of the model reach it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __deepcopy__(self, memo: dict[int, Any]) -> _Outside:
        return self


class CallRecorder:
    """Keeps arguments and results of modules while a loss is computed.

    mmseg calls ``forward`` of its heads itself, past torch's hooks, so the method is wrapped.

    Args:
        network: The model.
        names: Dotted names of its modules.
        where: For errors.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], where: str) -> None:
        self.where = where
        self.calls: dict[str, list[Call]] | None = None
        for name in names:
            part: Any = find_part(network, name, where)
            part.forward = functools.partial(self._call, name, part.forward)

    def _call(self, name: str, plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        if self.calls is not None:
            self.calls.setdefault(name, []).append(Call(args or tuple(kwargs.values()), output))
        return output

    def record(self, run: Callable[[], Any], names: Sequence[str]) -> tuple[Any, dict[str, Call]]:
        """Run something and return its result and the calls.

        Args:
            run: Runs the model once.
            names: Modules that must have been called.

        Raises:
            ConfigError: One of them was not called, or more than once.
        """
        self.calls = {}
        try:
            result, found = run(), self.calls
        finally:
            self.calls = None
        for name in names:
            count = len(found.get(name, ()))
            if count != 1:
                raise ConfigError(
                    f"{name} is called {count} times in a step, and is compared only if called once",
                    where=self.where,
                    fix="name a module that runs once: the classifier, or one that sees both dates of a pair",
                )
        return result, {name: found[name][0] for name in names}


class TaskDistiller(nn.Module):
    """The losses between a student and its teacher. Parts of it that are trained are dropped afterwards.

    Args:
        student: The student; its modules that are compared are recorded from now on.
        teacher: The frozen teacher.
        losses: Configs of the losses.
        classes: Names of the teacher's classes; empty where its checkpoint names none.

    Raises:
        ConfigError: There are no losses, or one does not fit the models.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        losses: Sequence[Mapping[str, Any]],
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not losses:
            raise ConfigError(
                "there are no losses",
                where="distill.losses",
                fix="losses=[dict(type='FeatureImitation'), dict(type='ClassImitation')] for detectors, "
                "[dict(type='PixelImitation')] for segmentors",
            )
        with torch.random.fork_rng():
            self.losses = nn.ModuleList(_ROOT.build(with_our_scope(one)) for one in losses)
        chosen: list[ImitationLoss] = list(self.losses)  # type: ignore[arg-type]
        self._names = tuple(
            tuple(dict.fromkeys(name for loss in chosen for name in getattr(loss, side)))
            for side in ("student_modules", "teacher_modules")
        )
        where = "distill.losses: module", "distill.losses: teacher_module"
        self._own = CallRecorder(student, self._names[0], where[0])
        self._other = CallRecorder(teacher, self._names[1], where[1])
        for loss in chosen:
            loss.check(student, teacher)
        self._outside, self.classes = _Outside(teacher), tuple(classes)
        self.teacher_hash = weights_hash(teacher)

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher."""
        return self._outside.network

    def total_loss(
        self,
        plain: Callable[..., dict[str, Any]],
        inputs: torch.Tensor,
        data_samples: Sequence[BaseDataElement],
    ) -> dict[str, Any]:
        """Return the student's own losses and those of its distance from the teacher.

        Args:
            plain: The student's method ``loss``.
            inputs: ``(N, bands, H, W)``, normalised.
            data_samples: Of the images.
        """
        losses, own = self._own.record(lambda: plain(inputs, data_samples), self._names[0])
        teacher = self.teacher.to(inputs.device)
        with torch.no_grad():
            _, other = self._other.record(lambda: _run(teacher, inputs), self._names[1])
        batch = ImitationBatch(own, other, teacher, inputs, data_samples)
        found = {f"loss_{i}_{type(loss).__name__}": loss(batch) for i, loss in enumerate(self.losses)}
        return {**losses, **found}


def _run(network: Any, images: torch.Tensor) -> None:
    """Run a model up to what does not depend on proposals; heads on regions get those of the student."""
    if hasattr(network, "rpn_head"):
        network.rpn_head(network.extract_feat(images))
    else:
        network(images, mode="tensor")


@HOOKS.register_module()
class TaskDistillationHook(Hook):
    """Added to every training with a ``distill`` block: checkpoints hold the student under plain names.

    What is trained along with it, convolutions between maps of other widths, is kept under a key of its own,
    with the hash of the teacher's weights.
    """

    priority = "LOW"  # after EMAHook, which exchanges weights of equal names

    def before_train(self, runner: Runner) -> None:
        """Compare the class lists.

        Raises:
            ConfigError: The teacher was trained on other classes.
        """
        known = _distiller(runner).classes
        classes = (getattr(runner.train_dataloader.dataset, "metainfo", None) or {}).get("classes")
        if known and classes and tuple(classes) != known:
            raise ConfigError(
                f"the teacher has the classes {', '.join(known)}; the training data {', '.join(classes)}",
                where="distill.teacher_checkpoint; train_dataloader.dataset.metainfo",
                fix="train a teacher on these classes, in this order",
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take what is not the student's out of the weights."""
        state = checkpoint.get("state_dict", {})
        trained = {name: state.pop(name) for name in [*state] if name.startswith(_OWN)}
        checkpoint[_SAVED] = {"teacher": _distiller(runner).teacher_hash, "weights": trained}


@HOOKS.register_module()
class TaskDistillationResumeHook(Hook):
    """Gives a resumed run back what :class:`TaskDistillationHook` took out of the weights."""

    priority = "HIGH"  # before EMAHook

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the weights back.

        Raises:
            CheckpointError: The run had another teacher.
        """
        saved = checkpoint.get(_SAVED)
        if saved is None or not getattr(runner, "_resume", False):
            return
        found = _distiller(runner).teacher_hash
        if saved["teacher"] != found:
            raise CheckpointError(
                f"the run had another teacher: its weights have the hash {saved['teacher'][:12]}, those of "
                f"this config {found[:12]}",
                where="distill.teacher_checkpoint",
                fix="name the teacher of the run, or start anew: load_from, without --resume",
            )
        checkpoint.get("state_dict", {}).update(saved["weights"])


def _distiller(runner: Runner) -> TaskDistiller:
    model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.distiller
