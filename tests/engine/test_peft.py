"""LoRA in any backbone: only adapters learn, every adapter counts, merging gives the same network."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.peft import (
    LoRAHook,
    adapters,
    frozen_names,
    merge_adapters,
    reloadable_names,
    with_lora,
)
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.io.checkpoints import read_checkpoint
from rsfoundation.registry import MODELS

BACKBONES = {
    "swin": dict(type="rsfoundation.RSPSwinTransformer", arch="t"),
    "vitae": dict(type="rsfoundation.ViTAEv2", arch="s"),
    "rsmamba": dict(
        type="rsfoundation.RSMamba", arch=dict(embed_dims=32, num_layers=2, feedforward_channels=48)
    ),
}


@MODELS.register_module()
class Holder(BaseModel):
    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(3, 3)

    def forward(self, inputs):
        return self.backbone(inputs)


def holder(name):
    torch.manual_seed(0)
    return dict(type="rsfoundation.Holder", backbone=dict(BACKBONES[name]))


def outputs(network, image):
    network.eval()  # some return nothing
    with torch.no_grad():
        return network(image)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", BACKBONES)
def test_adapters_of_a_backbone(name, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _check_adapters(name)
    finally:
        torch.set_num_threads(before)


def _check_adapters(name):
    network = with_lora(holder(name), rank=2)
    torch.manual_seed(1)
    network.init_weights()
    plain = MODELS.build(holder(name))
    torch.manual_seed(1)
    plain.init_weights()
    image = torch.randn(1, 3, 64, 64)
    for found, expected in zip(outputs(network, image), outputs(plain, image), strict=True):
        torch.testing.assert_close(found, expected)
    trained = {key for key, value in network.backbone.named_parameters() if value.requires_grad}
    assert trained and all("lora_" in key for key in trained)
    assert all(value.requires_grad for value in network.head.parameters())
    with torch.no_grad():
        for key, value in network.backbone.named_parameters():
            if "lora_B" in key:
                value.normal_(0, 0.02)
    network.train()
    sum(part.square().mean() for part in network(image)).backward()
    for key, value in network.backbone.named_parameters():
        assert (value.grad is not None and value.grad.any()) == ("lora_" in key), key
    adapted = outputs(network, image)
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(adapted, outputs(plain, image), strict=True))
    assert merge_adapters(network) > 0 and not adapters(network)
    assert list(network.state_dict()) == list(plain.state_dict())
    for found, expected in zip(outputs(network, image), adapted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "text"), [(dict(target=["nothing"]), "no layer of"), (dict(scope="bakbone"), "no part")]
)
def test_wrong_names_say_what_there_is(options, text):
    with pytest.raises(ConfigError, match=text) as caught:
        with_lora(holder("rsmamba"), **options)
    assert "in_proj" in caught.value.fix or "'backbone'" in caught.value.fix


@pytest.fixture
def lora_config(tiny_config):
    config = tiny_config.with_name("lora.py")
    config.write_text(tiny_config.read_text() + "\nlora = dict(rank=2, scope='body', target=['0'])\n")
    return config


def test_a_run_keeps_frozen_weights_and_a_small_optimiser(lora_config):
    options = RunOptions(lora_config.parent / "run", device="cpu", seed=1)
    result = train(lora_config, options)
    first, last = (read_checkpoint(result.work_dir / f"epoch_{number}.pth") for number in (1, 4))
    assert torch.equal(
        first["state_dict"]["body.0.base_layer.weight"], last["state_dict"]["body.0.base_layer.weight"]
    )
    assert (
        len(last["optimizer"]["state"]) == 2 + 2
    )  # the adapter's two, the head's two; its norm is frozen too
    tested = run_test(lora_config, None, options, pictures=0)
    from typer.testing import CliRunner

    from rsfoundation.cli.app import app

    for name in ("merged.pth", "merged.safetensors"):
        merged = lora_config.parent / name
        done = CliRunner().invoke(app, ["convert", "merge-lora", str(result.work_dir), str(merged)])
        assert done.exit_code == 0, done.output
        plain = run_test(lora_config.with_name("tiny.py"), merged, options, pictures=0)
        assert plain.metrics == tested.metrics
        assert not [
            key for key in read_checkpoint(merged)["state_dict"] if "lora" in key or "base_layer" in key
        ]
        assert read_checkpoint(merged)["meta"]["dataset_meta"]["classes"]


def test_adapters_alone_need_a_file_of_the_rest(lora_config):
    lora_config.write_text(lora_config.read_text().replace("rank=2", "rank=2, adapters_only=True"))
    with pytest.raises(ConfigError, match="no file holds"):
        train(lora_config, RunOptions(lora_config.parent / "run", device="cpu"))


@MODELS.register_module()
class Pyramid(BaseModel):
    """A classifying backbone, in a task."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(dict(type="mmengine.BaseDataPreprocessor"))
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(self.backbone.out_channels[-1], 2)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x = torch.stack(inputs) if isinstance(inputs, (list, tuple)) else inputs
        x = nn.functional.interpolate(x.float() / 255, size=(32, 32))
        logits = self.head(self.backbone(x)[-1].flatten(1))
        if mode == "loss":
            labels = torch.tensor([sample.label for sample in data_samples])
            return dict(loss=nn.functional.cross_entropy(logits, labels))
        for sample, row in zip(data_samples, logits, strict=True):
            sample.set_field(int(row.argmax()), "prediction", field_type="metainfo")
        return data_samples


@MODELS.register_module()
class WeightReader(nn.Module):
    """A backbone that reads the weight of its layer and never calls it."""

    out_channels = (4,)

    def __init__(self):
        super().__init__()
        self.dt_proj = nn.Linear(3, 4)

    def forward(self, x):
        return (nn.functional.linear(x.mean((2, 3)), self.dt_proj.weight)[:, :, None, None],)


def test_an_adapter_that_would_be_bypassed_ends_the_run(tiny_config):
    config = tiny_config.with_name("bypassed.py")
    model = dict(type="rsfoundation.Pyramid", backbone=dict(type="rsfoundation.WeightReader"))
    config.write_text(
        tiny_config.read_text() + f"\nmodel = {model!r}\nlora = dict(rank=2, target=['dt_proj'])\n"
    )
    with pytest.raises(ConfigError, match=r"dt_proj has no effect in training"):
        train(config, RunOptions(tiny_config.parent / "run", device="cpu"))


def test_adapters_alone_come_back_on_their_weights(tiny_config):
    folder = tiny_config.parent
    backbone = MODELS.build(BACKBONES["rsmamba"])
    backbone.init_weights()
    torch.save(backbone.state_dict(), folder / "base.pth")
    part = {**BACKBONES["rsmamba"], "init_cfg": dict(type="Pretrained", checkpoint=str(folder / "base.pth"))}
    config = folder / "alone.py"
    config.write_text(
        tiny_config.read_text()
        + f"\nmodel = dict(type='rsfoundation.Pyramid', backbone={part!r})"
        + "\nlora = dict(rank=2, adapters_only=True)\ntrain_cfg['max_epochs'] = 2\n"
    )
    options = RunOptions(folder / "run", device="cpu", seed=1)
    result = train(config, options)
    content = read_checkpoint(result.last_checkpoint)
    network = with_lora(dict(type="rsfoundation.Pyramid", backbone=part), rank=2)
    assert not set(content["state_dict"]) & set(frozen_names(network))
    assert run_test(config, None, options, pictures=0).metrics == result.metrics
    more = RunOptions(folder / "run", "auto", device="cpu", seed=1, overrides=("train_cfg.max_epochs=3",))
    assert train(config, more).last_checkpoint.name == "epoch_3.pth"
    torch.save(MODELS.build(BACKBONES["rsmamba"]).state_dict(), folder / "base.pth")
    from rsfoundation.core.errors import CheckpointError

    with pytest.raises(CheckpointError, match="other weights"):
        run_test(config, None, options, pictures=0)


def test_frozen_weights_that_no_file_holds_stay_with_adapters(tiny_config):
    folder = tiny_config.parent
    torch.save(MODELS.build(BACKBONES["rsmamba"]).state_dict(), folder / "base.pth")
    part = {**BACKBONES["rsmamba"], "init_cfg": dict(type="Pretrained", checkpoint=str(folder / "base.pth"))}
    model = dict(type="rsfoundation.FrozenHead", backbone=part)
    network = with_lora(model, rank=2)
    assert set(frozen_names(network)) - set(reloadable_names(network)) == {"head.weight", "head.bias"}
    config = folder / "frozen.py"
    config.write_text(
        tiny_config.read_text()
        + f"\nmodel = {model!r}\nlora = dict(rank=2, adapters_only=True)\ntrain_cfg['max_epochs'] = 1\n"
    )
    options = RunOptions(folder / "run", device="cpu", seed=1)
    result = train(config, options)
    state = read_checkpoint(result.last_checkpoint)["state_dict"]
    assert "head.weight" in state and not state.keys() & set(reloadable_names(network))
    other_seed = RunOptions(folder / "run", device="cpu", seed=2)
    assert run_test(config, None, other_seed, pictures=0).metrics == result.metrics


@MODELS.register_module()
class FrozenHead(Pyramid):
    """Its head keeps the weights it starts with."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(backbone, data_preprocessor)
        self.head.requires_grad_(False)


def test_deepspeed_does_not_lose_frozen_weights_that_no_file_holds(tmp_path):
    torch.save(MODELS.build(BACKBONES["rsmamba"]).state_dict(), tmp_path / "base.pth")
    part = {
        **BACKBONES["rsmamba"],
        "init_cfg": dict(type="Pretrained", checkpoint=str(tmp_path / "base.pth")),
    }
    strategy = SimpleNamespace(exclude_frozen_parameters=True)
    runner = SimpleNamespace(hooks=[], cfg=SimpleNamespace(lora=dict(rank=2)), strategy=strategy)
    hook = LoRAHook(adapters_only=True)
    hook.before_sharding(runner, with_lora(dict(type="rsfoundation.Pyramid", backbone=part), rank=2))
    with pytest.raises(ConfigError, match=r"no file holds head\.bias"):
        hook.before_sharding(runner, with_lora(dict(type="rsfoundation.FrozenHead", backbone=part), rank=2))
