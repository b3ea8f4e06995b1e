"""The registries of scope ``rsfoundation``: children of mmengine's roots, filled on first use.

``locations`` name the packages that register modules when imported, so that a config needs no
``custom_imports``. A config keeps the scope of the toolbox it leans on and names our parts with the
prefix, as in ``type='rsfoundation.LSKNet'``.
"""

from mmengine.registry import DATA_SAMPLERS as _DATA_SAMPLERS
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import LOOPS as _LOOPS
from mmengine.registry import METRICS as _METRICS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as _OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as _OPTIM_WRAPPERS
from mmengine.registry import STRATEGIES as _STRATEGIES
from mmengine.registry import TASK_UTILS as _TASK_UTILS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import VISBACKENDS as _VISBACKENDS
from mmengine.registry import Registry

_SCOPE = "rsfoundation"
_TASK_PACKAGES = [
    "rsfoundation.detection",
    "rsfoundation.segmentation",
    "rsfoundation.instance",
    "rsfoundation.change",
]

MODELS = Registry(
    "model",
    parent=_MODELS,
    scope=_SCOPE,
    locations=["rsfoundation.backbones", "rsfoundation.engine.peft", *_TASK_PACKAGES],
)
DATASETS = Registry("dataset", parent=_DATASETS, scope=_SCOPE, locations=_TASK_PACKAGES)
DATA_SAMPLERS = Registry(
    "data sampler", parent=_DATA_SAMPLERS, scope=_SCOPE, locations=["rsfoundation.detection"]
)
TRANSFORMS = Registry("transform", parent=_TRANSFORMS, scope=_SCOPE, locations=_TASK_PACKAGES)
METRICS = Registry("metric", parent=_METRICS, scope=_SCOPE, locations=_TASK_PACKAGES)
TASK_UTILS = Registry("task util", parent=_TASK_UTILS, scope=_SCOPE, locations=_TASK_PACKAGES)
VISBACKENDS = Registry(
    "vis_backend", parent=_VISBACKENDS, scope=_SCOPE, locations=["rsfoundation.engine.tracking"]
)
LOOPS = Registry("loop", parent=_LOOPS, scope=_SCOPE, locations=["rsfoundation.engine.resume_loops"])
HOOKS = Registry(
    "hook",
    parent=_HOOKS,
    scope=_SCOPE,
    locations=["rsfoundation.engine.hooks", "rsfoundation.engine.strategies", *_TASK_PACKAGES],
)
STRATEGIES = Registry(
    "strategy", parent=_STRATEGIES, scope=_SCOPE, locations=["rsfoundation.engine.strategies"]
)
OPTIM_WRAPPERS = Registry(
    "optim_wrapper", parent=_OPTIM_WRAPPERS, scope=_SCOPE, locations=["rsfoundation.engine.amp"]
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=_OPTIM_WRAPPER_CONSTRUCTORS,
    scope=_SCOPE,
    locations=["rsfoundation.engine.layer_decay"],
)

# What a task family declares to engine, inference and console: see rsfoundation.task.
TASKS = Registry("task", scope=_SCOPE, locations=_TASK_PACKAGES)
