import importlib

import pytest

from rsfoundation.errors import MissingOperatorError
from rsfoundation.ops.ext import IMPLEMENTED, StandIn


def test_every_listed_operator_exists():
    for module, names in IMPLEMENTED.items():
        adapter = importlib.import_module(f"rsfoundation.ops.adapters.{module}")
        assert all(callable(getattr(adapter, name)) for name in names)


def test_missing_operator_is_named_when_called_and_not_before():
    operator = StandIn("mmcv._ext").tin_shift_forward
    with pytest.raises(MissingOperatorError, match="'tin_shift_forward'") as error:
        operator(1, other=2)
    assert "onedl-mmcv" in error.value.cure


def test_special_names_are_absent():
    assert not hasattr(StandIn("mmcv._ext"), "__path__")
    assert not hasattr(StandIn("mmcv._ext"), "__wrapped__")


def test_mmcv_runs_on_it():
    import mmcv._ext
    import mmcv.ops

    assert isinstance(mmcv._ext, StandIn)
    assert mmcv.ops.get_compiler_version().startswith("none")
