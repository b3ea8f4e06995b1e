"""The registries of scope ``rsfoundation``: children of mmengine's roots, filled on first use.

``locations`` name the modules that register parts when imported, so that a config needs no
``custom_imports``. A new file in one of these packages is found without a list to extend. A config keeps
the scope of the toolbox it builds on and names our parts with the prefix: ``type='rsfoundation.LSKNet'``.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.registry import DATA_SAMPLERS as _DATA_SAMPLERS
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import LOOPS as _LOOPS
from mmengine.registry import METRICS as _METRICS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as _OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as _OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as _OPTIMIZERS
from mmengine.registry import STRATEGIES as _STRATEGIES
from mmengine.registry import TASK_UTILS as _TASK_UTILS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import VISBACKENDS as _VISBACKENDS
from mmengine.registry import Registry

_SCOPE = "rsfoundation"
_PACKAGE = Path(__file__).parent


def _modules_of(package: str) -> list[str]:
    """Return the module names of all files below a folder of this package; nothing is imported."""
    files = sorted(file for file in (_PACKAGE / package).rglob("*.py") if file.name != "__init__.py")
    return [".".join((_SCOPE, *file.relative_to(_PACKAGE).with_suffix("").parts)) for file in files]


_WRAPPERS = ["rsfoundation.engine.peft", "rsfoundation.engine.task_distillation"]
MODELS = Registry("model", parent=_MODELS, scope=_SCOPE, locations=[*_modules_of("models"), *_WRAPPERS])
DATASETS = Registry("dataset", parent=_DATASETS, scope=_SCOPE, locations=_modules_of("datasets"))
DATA_SAMPLERS = Registry(
    "data sampler", parent=_DATA_SAMPLERS, scope=_SCOPE, locations=["rsfoundation.datasets.samplers"]
)
TRANSFORMS = Registry(
    "transform", parent=_TRANSFORMS, scope=_SCOPE, locations=_modules_of("datasets/transforms")
)
METRICS = Registry("metric", parent=_METRICS, scope=_SCOPE, locations=_modules_of("evaluation"))
TASK_UTILS = Registry(
    "task util",
    parent=_TASK_UTILS,
    scope=_SCOPE,
    locations=["rsfoundation.models.task_modules"],
)
VISBACKENDS = Registry(
    "vis_backend", parent=_VISBACKENDS, scope=_SCOPE, locations=["rsfoundation.engine.tracking"]
)
LOOPS = Registry("loop", parent=_LOOPS, scope=_SCOPE, locations=["rsfoundation.engine.checkpointing.resume"])
HOOKS = Registry(
    "hook",
    parent=_HOOKS,
    scope=_SCOPE,
    locations=[
        "rsfoundation.engine.checkpointing.checkpoint_hook",
        "rsfoundation.engine.checkpointing.resumed_settings",
        "rsfoundation.engine.distillation",
        "rsfoundation.engine.model_builder",
        "rsfoundation.engine.run_hooks",
        "rsfoundation.engine.peft",
        "rsfoundation.engine.task_distillation",
        "rsfoundation.engine.distributed.ema",
        "rsfoundation.evaluation.submission.metric",
    ],
)
STRATEGIES = Registry(
    "strategy", parent=_STRATEGIES, scope=_SCOPE, locations=_modules_of("engine/distributed")
)
OPTIMIZERS = Registry("optimizer", parent=_OPTIMIZERS, scope=_SCOPE, locations=["rsfoundation.engine.optim"])
OPTIM_WRAPPERS = Registry(
    "optim_wrapper", parent=_OPTIM_WRAPPERS, scope=_SCOPE, locations=["rsfoundation.engine.optim"]
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=_OPTIM_WRAPPER_CONSTRUCTORS,
    scope=_SCOPE,
    locations=["rsfoundation.engine.optim"],
)


class _OpenCDScope(Registry):
    """Open-CD's scope, where ``opencd`` is not installed: finds what ours has under its names.

    Args:
        ours: The registry to look in.
    """

    def __init__(self, ours: Registry) -> None:
        super().__init__(ours.name, parent=ours.parent, scope="opencd")
        self._ours = ours

    def get(self, key: str) -> Any:
        """Return what is registered under a name, with or without a scope."""
        scope, name = self.split_scope_key(key)
        return self._ours.get(name if scope == self.scope else key)


if find_spec("opencd") is None:
    OPEN_CD = tuple(_OpenCDScope(ours) for ours in (MODELS, DATASETS, TRANSFORMS, METRICS, HOOKS))

# What a task family declares to engine, inference and console: see rsfoundation.core.task.
TASKS = Registry("task", scope=_SCOPE, locations=_modules_of("tasks"))


def with_scope(node: Any) -> Any:
    """Name our scope wherever a config names a model part of ours without one.

    Toolboxes build the parts inside a model in the default scope, which need not be ours: Open-CD's configs
    name its parts without a prefix.

    Args:
        node: A config, or any value of one; it is not changed.

    Returns:
        The same with ``type='rsfoundation.X'`` for every ``type='X'`` that is one of :data:`MODELS`.
    """
    if isinstance(node, dict):
        named = {key: with_scope(value) for key, value in node.items()}
        kind = named.get("type")
        if isinstance(kind, str) and "." not in kind and kind in MODELS.module_dict:
            named["type"] = f"{_SCOPE}.{kind}"
        return type(node)(named)
    return type(node)(with_scope(item) for item in node) if type(node) in (list, tuple) else node
