"""rsfoundation: remote-sensing vision on MMEngine.

Importing this package is cheap (standard library only): it installs the stand-in for mmcv's compiled
operators, and a correction of mmrotate's boxes for when mmrotate is imported. Everything heavy is imported
where it is used; the functions of the Python API (:mod:`rsfoundation.api`) when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rsfoundation._mmcv_ext import install as _install_mmcv_ext
from rsfoundation._rotated_boxes import install as _correct_rotated_boxes

if TYPE_CHECKING:
    from rsfoundation.api import create_model, list_models, load_model, predict, test, train

__version__ = "0.1.0"
__all__ = ["create_model", "list_models", "load_model", "predict", "test", "train"]

_install_mmcv_ext()
_correct_rotated_boxes()


def __getattr__(name: str) -> Any:
    """Import a function of the Python API when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'rsfoundation' has no attribute {name!r}")
    # backbones need neither the engine nor the toolboxes
    module = "rsfoundation.models.factory" if name in ("create_model", "list_models") else "rsfoundation.api"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    """List the Python API, too."""
    return sorted({*globals(), *__all__})
