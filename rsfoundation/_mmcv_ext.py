"""Makes ``import mmcv.ops`` work where mmcv was installed without its compiled part.

mmcv imports its operators from the extension module ``mmcv._ext``. A plain install has none, so a
finder on ``sys.meta_path`` answers for that one name with :mod:`rsfoundation.ops.mmcv_ext`. It comes first:
where there is a compiled ``mmcv._ext``, the stand-in passes calls on to it as ``RSF_OPS`` says.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAME = "mmcv._ext"


class _StandInLoader(Loader):
    """Fills the module ``mmcv._ext`` from ``rsfoundation.ops.mmcv_ext``."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Build the stand-in module; torch is imported here and not before."""
        from rsfoundation.ops.mmcv_ext import StandIn

        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the stand-in resolves its operators by name on access."""


class _StandInFinder(MetaPathFinder):
    """Answers for ``mmcv._ext`` and for no other name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the stand-in for ``mmcv._ext`` and ``None`` for any other name."""
        if fullname != _NAME:
            return None
        return importlib.util.spec_from_loader(fullname, _StandInLoader(), origin="rsfoundation.ops.mmcv_ext")


def install() -> None:
    """Add the finder to ``sys.meta_path`` once; a second call changes nothing."""
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _StandInFinder())
