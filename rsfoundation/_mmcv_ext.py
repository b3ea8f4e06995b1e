"""Makes ``import mmcv.ops`` work where mmcv was installed without its compiled part.

mmcv imports its operators from the extension module ``mmcv._ext``. A plain install has none, so a
finder at the *end* of ``sys.meta_path`` answers for that one name with :mod:`rsfoundation.ops.ext`;
a compiled ``mmcv._ext``, where there is one, is found first and wins.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAME = "mmcv._ext"


class _StandInLoader(Loader):
    """Fills the module ``mmcv._ext`` from ``rsfoundation.ops.ext``."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Build the stand-in module; torch is imported here and not before."""
        from rsfoundation.ops.ext import StandIn

        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the stand-in resolves its operators by name on access."""


class _StandInFinder(MetaPathFinder):
    """Answers for ``mmcv._ext`` when nothing before it on ``sys.meta_path`` did."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the stand-in for ``mmcv._ext`` and ``None`` for any other name."""
        if fullname != _NAME:
            return None
        return importlib.util.spec_from_loader(fullname, _StandInLoader(), origin="rsfoundation.ops.ext")


def install() -> None:
    """Put the finder in place once; a second call changes nothing."""
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(_StandInFinder())
