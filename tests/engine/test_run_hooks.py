"""Heads, checkpoint and data must have the same classes."""

import re
import types

import pytest
import torch
from mmengine.config import Config
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.run_hooks import ClassCountHook, CompileHook, check_band_count


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
    runner = types.SimpleNamespace(
        model=model, cfg=Config(), train_dataloader=types.SimpleNamespace(dataset=data)
    )
    ClassCountHook().before_train(runner)


def test_equal_counts_pass_and_so_do_data_without_classes():
    check(Model(), "abcd")
    check(nn.ModuleDict({"module": Model()}), "abcd")  # as wrappers name it
    check(Model(9), None)


def test_another_count_names_the_first_head_and_the_fix():
    with pytest.raises(ConfigError, match=r"bbox_head\.1 has num_classes=3, .* 4 classes") as caught:
        check(nn.ModuleDict({"module": Model(4, 3)}), "abcd")
    assert caught.value.where == "model.roi_head.bbox_head.1; train_dataloader.dataset"
    assert "num_classes=4" in caught.value.fix
    with pytest.raises(ConfigError, match=r"bbox_head\.0 has num_classes=4 \(and 1 more heads\)"):
        check(Model(), "abcde")


def test_a_model_that_repeats_its_heads_classes_is_not_named_for_the_head():
    model = Model(3)
    model.num_classes = 3  # as segmentors do
    with pytest.raises(ConfigError, match=r"^roi_head\.bbox_head\.0 has num_classes=3"):
        check(model, "abcd")


class Backbone(nn.Module):
    def __init__(self, in_channels=3):
        super().__init__()


@pytest.mark.parametrize(
    ("mean", "declared", "fits"),
    [(3, {}, True), (4, {}, False), (3, {"in_channels": 4}, False), (6, {}, True), (0, {}, True)],
)
def test_bands_of_mean_and_backbone_are_compared(mean, declared, fits):
    model = nn.Module()
    model.backbone, model.data_preprocessor = Backbone(**declared), nn.Module()
    model.data_preprocessor.register_buffer("mean", torch.zeros(mean, 1, 1))
    cfg = Config(dict(model=dict(backbone=dict(type="Backbone", **declared))))
    if fits:
        check_band_count(model, cfg)
        return
    with pytest.raises(ConfigError, match=f"mean and std have {mean} bands") as caught:
        check_band_count(nn.ModuleDict({"module": model}), cfg)
    assert f"in_channels={mean}" in caught.value.fix


def loader(classes):
    return types.SimpleNamespace(dataset=types.SimpleNamespace(metainfo={"classes": classes}))


def test_a_test_set_of_fewer_classes_is_an_error_with_both_counts():
    runner = types.SimpleNamespace(model=Model(), test_dataloader=loader("abc"))
    with pytest.raises(ConfigError, match=r"num_classes=4 .*, and the test data 3 classes") as caught:
        ClassCountHook().before_test(runner)
    assert "test_dataloader.dataset" in caught.value.where and "evaluator.subsets" in caught.value.fix
    ClassCountHook().before_test(types.SimpleNamespace(model=Model(), test_dataloader=loader("abcd")))


def test_validation_data_is_compared_before_the_first_step():
    runner = types.SimpleNamespace(
        model=Model(), cfg=Config(), train_dataloader=loader("abcd"), val_dataloader=loader("abc")
    )
    with pytest.raises(ConfigError, match="the validation data 3 classes"):
        ClassCountHook().before_train(runner)
    runner.val_dataloader = loader("abdc")
    with pytest.raises(ConfigError, match="another order"):
        ClassCountHook().before_train(runner)
    runner.val_dataloader = loader("abcd")
    ClassCountHook().before_train(runner)


def test_classes_of_the_checkpoint_in_another_order_are_an_error_with_both_lists():
    hook = ClassCountHook()
    runner = types.SimpleNamespace(model=Model(), test_dataloader=loader(("ship", "plane", "car", "bus")))
    hook.after_load_checkpoint(
        runner, dict(meta=dict(dataset_meta=dict(classes=("plane", "ship", "car", "bus"))))
    )
    with pytest.raises(
        ConfigError, match="plane, ship, car, bus; the test data: ship, plane, car, bus"
    ) as caught:
        hook.before_test(runner)
    assert "classes=('plane', 'ship', 'car', 'bus')" in caught.value.fix


def test_other_names_are_a_warning_and_checkpoints_without_names_pass(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    runner = types.SimpleNamespace(model=Model(), test_dataloader=loader("abcd"))
    hook = ClassCountHook()
    hook.after_load_checkpoint(runner, {})
    hook.before_test(runner)
    assert not caplog.text
    hook.after_load_checkpoint(runner, dict(meta=dict(dataset_meta=dict(classes="abce"))))
    hook.before_test(runner)
    logger.removeHandler(caplog.handler)
    assert "a, b, c, e; the test data: a, b, c, d" in caplog.text


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x).relu()


class Wrapped(nn.Module):
    """A model in a wrapper, with a part inside a part."""

    def __init__(self):
        super().__init__()
        self.module = nn.Module()
        self.module.backbone, self.module.neck = Part(), Part()
        self.module.backbone.neck = nn.Identity()
        self.module.head = nn.Linear(2, 2)

    def forward(self, x):
        return self.module.head(self.module.neck(self.module.backbone(x)))


def shapes_of(graph):
    values = [node.meta.get("example_value") for node in graph.graph.nodes]
    return [size for value in values if isinstance(value, torch.Tensor) for size in value.shape]


def test_backbone_and_neck_are_compiled_and_the_time_is_logged_once():
    lines, graphs = [], []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    model, x = Wrapped(), torch.randn(3, 2)
    names, wanted = list(model.state_dict()), model(x)
    runner = types.SimpleNamespace(model=model, logger=types.SimpleNamespace(info=lines.append))
    hook = CompileHook(backend=backend)
    hook.before_train(runner)
    assert not graphs, "compiled at the first call"
    for step in range(4):
        torch.testing.assert_close(model(x), wanted)
        hook.after_train_iter(runner, step)
    assert len(graphs) == 2 and list(model.state_dict()) == names
    hook.before_val(runner)
    model(torch.randn(7, 2))
    assert len(graphs) == 2, "validation stays eager"
    hook.after_val(runner)
    model(torch.randn(5, 2))
    model(x)
    assert len(graphs) == 4, "another size compiles once, with sizes that are fixed"
    assert not any(isinstance(size, torch.SymInt) for graph in graphs[2:] for size in shapes_of(graph))
    assert len(lines) == 2
    assert "module.backbone, module.neck;" in lines[0]
    assert re.search(r"compiled in \d+\.\d s \(first step", lines[1])


@pytest.mark.parametrize("options", [dict(backend="nosuch"), dict(mode="fastest"), dict(speed=9)], ids=str)
def test_options_that_torch_refuses_are_named(options):
    runner = types.SimpleNamespace(model=Wrapped())
    with pytest.raises(ConfigError, match=next(iter(options))) as caught:
        CompileHook(**options).before_train(runner)
    assert caught.value.where == "compile_backbone"


def test_a_model_without_backbone_and_neck_is_not_compiled():
    runner = types.SimpleNamespace(model=nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="no part named backbone or neck"):
        CompileHook().before_train(runner)
