import types

import pytest
import torch

from rsfoundation.core.errors import ConfigError, MissingOperatorError
from rsfoundation.ops import mmcv_ext as backend
from rsfoundation.ops.mmcv_ext import StandIn


def ours(*args):
    return "ours"


@pytest.fixture
def compiled(monkeypatch):
    module = types.SimpleNamespace(nms=lambda *args: "compiled")
    monkeypatch.setattr(backend, "compiled_mmcv", lambda: module)


@pytest.fixture
def on_cuda(monkeypatch):
    monkeypatch.setattr(backend, "_on_cuda", lambda args: True)


@pytest.mark.parametrize(
    ("variable", "expected"), [("auto", "ours"), ("builtin", "ours"), ("mmcv", "compiled")]
)
def test_choice_on_the_cpu(monkeypatch, compiled, variable, expected):
    monkeypatch.setenv("RSF_OPS", variable)
    assert backend.pick("nms", ours, [torch.zeros(1)])() == expected


@pytest.mark.parametrize(
    ("variable", "expected"), [("auto", "compiled"), ("builtin", "ours"), ("mmcv", "compiled")]
)
def test_choice_on_cuda(monkeypatch, compiled, on_cuda, variable, expected):
    monkeypatch.setenv("RSF_OPS", variable)
    assert backend.pick("nms", ours, [])() == expected


def test_auto_takes_the_one_that_exists(monkeypatch, compiled, on_cuda):
    monkeypatch.delenv("RSF_OPS", raising=False)
    assert backend.pick("nms", None, [])() == "compiled"
    assert backend.pick("other", ours, [])() == "ours"


def test_nothing_to_take(monkeypatch, compiled):
    monkeypatch.setenv("RSF_OPS", "mmcv")
    with pytest.raises(MissingOperatorError, match="RSF_OPS=mmcv"):
        backend.pick("other", ours, [])
    monkeypatch.setenv("RSF_OPS", "builtin")
    with pytest.raises(MissingOperatorError, match="'nms'"):
        backend.pick("nms", None, [])


def test_unknown_word(monkeypatch):
    monkeypatch.setenv("RSF_OPS", "fastest")
    with pytest.raises(ConfigError, match="fastest"):
        StandIn("mmcv._ext").nms(torch.zeros(0, 4), torch.zeros(0), 0.5, 0)


def test_a_plain_installation_has_no_compiled_part():
    module = backend.compiled_mmcv()
    assert module is None or hasattr(module, "nms")
