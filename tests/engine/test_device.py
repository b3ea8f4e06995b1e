"""Devices: names are checked, absent CUDA is said."""

import pytest
import torch

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.environment import use_device


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", ""])
def test_unknown_names_are_errors(name):
    with pytest.raises(ConfigError, match="unknown device"):
        use_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_absent_cuda_is_said_and_auto_takes_the_cpu():
    with pytest.raises(ConfigError, match="no CUDA device"):
        use_device("cuda")
    assert use_device("auto") == "cpu"


def test_cpu_holds_for_mmengine_too(monkeypatch):
    from mmengine.device import get_device, utils

    monkeypatch.setattr(utils, "DEVICE", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert use_device("cpu") == "cpu" and get_device() == "cpu"
