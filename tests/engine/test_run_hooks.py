"""Heads and data must have equally many classes."""

import types

import pytest
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.run_hooks import ClassCountHook


class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes


class Model(nn.Module):
    def __init__(self, first=4, second=4):
        super().__init__()
        self.backbone, self.rpn_head = Head(1000), Head(1)
        self.roi_head = nn.Module()
        self.roi_head.bbox_head = nn.ModuleList([Head(first), Head(second)])
        self.roi_head.loss_cls = Head(7)


def check(model, classes):
    data = types.SimpleNamespace(metainfo={} if classes is None else {"classes": classes})
    runner = types.SimpleNamespace(model=model, train_dataloader=types.SimpleNamespace(dataset=data))
    ClassCountHook().before_train(runner)


def test_equal_counts_pass_and_so_do_data_without_classes():
    check(Model(), "abcd")
    check(nn.ModuleDict({"module": Model()}), "abcd")  # as wrappers name it
    check(Model(9), None)


def test_another_count_names_the_first_head_and_the_cure():
    with pytest.raises(ConfigError, match=r"bbox_head\.1 has num_classes=3, .* 4 classes") as caught:
        check(nn.ModuleDict({"module": Model(4, 3)}), "abcd")
    assert caught.value.where == "model.roi_head.bbox_head.1; train_dataloader.dataset"
    assert "num_classes=4" in caught.value.fix
    with pytest.raises(ConfigError, match=r"bbox_head\.0 has num_classes=4 \(and 1 more heads\)"):
        check(Model(), "abcde")
