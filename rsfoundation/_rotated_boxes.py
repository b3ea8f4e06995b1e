"""Makes mmrotate's ``RotatedBoxes`` follow the pixels where x and y are scaled by different factors.

Every resize, in a training pipeline and on the way back from a detector to the pixels of a file, goes through
``RotatedBoxes.rescale_``, which heads of mmdet and mmrotate call on their own. In mmrotate 1.2 it turns boxes
the wrong way where the factors differ: a box of 80 x 20 px at 30 degrees comes out at 16 degrees instead of
49 when the image is stretched to twice its height. The method is replaced when mmrotate is imported, so
that all of them are right; equal factors still take the original.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_NAME = "mmrotate.structures.bbox.rotated_boxes"


class _RotatedBoxesFinder(MetaPathFinder):
    """Finds the module of ``RotatedBoxes`` as usual, and replaces the method once it is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of that module, and ``None`` for any other name."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == _NAME else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_replace(module: ModuleType) -> None:
            execute(module)
            _replace_method(module)

        spec.loader.exec_module = execute_and_replace  # type: ignore[method-assign]
        return spec


def _replace_method(module: ModuleType) -> None:
    from rsfoundation.geometry.boxes import rescale_any

    boxes: Any = module.RotatedBoxes
    boxes.rescale_ = rescale_any(boxes.rescale_)


def install() -> None:
    """Replace the method, now or when mmrotate is imported; a second call changes nothing."""
    if any(isinstance(finder, _RotatedBoxesFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _RotatedBoxesFinder())
    if _NAME in sys.modules:
        _replace_method(sys.modules[_NAME])
