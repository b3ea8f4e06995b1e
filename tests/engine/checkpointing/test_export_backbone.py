"""Backbones as files of their own, with a model card."""

import hashlib
import json

import pytest
import torch
from locations import ROOT
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from recognition_run import make_run

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.engine.checkpointing.export_backbone import export_backbone
from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.models.factory import create_model
from rsfoundation.registry import MODELS


@pytest.fixture
def run(tmp_path):
    _, model = make_run(tmp_path / "run", tmp_path)
    (tmp_path / "run" / "test.json").write_text(json.dumps(dict(metrics=dict(top1=0.875))))
    rows = dict(val=[dict(epoch=3, iter=12, top1=0.75)], train=[dict(iter=12, loss=0.5, lr=1.0)])
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(rows))
    return tmp_path / "run", model


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_file_has_the_published_names_and_starts_every_task(run, tmp_path, suffix):
    folder, model = run
    output = tmp_path / f"mine{suffix}"
    done = export_backbone(folder, output, licence="cc-by-4.0", description="For tests.")
    made = create_model("lsknet_t", pretrained=str(output))
    assert not made.load_report.missing and not made.load_report.skipped
    state = model.backbone.state_dict()
    assert done.tensors == len(state)
    assert all(torch.equal(value, state[key]) for key, value in made.state_dict().items())
    detector = load_config("quickstart/detection_toy_lsknet_t", [
        "model.backbone.init_cfg.type=Pretrained", f"model.backbone.init_cfg.checkpoint={output}"
    ])  # fmt: skip
    drop_sync_bn(detector)
    init_default_scope(detector.default_scope)
    network = ROOT_MODELS.build(detector.model)
    network.init_weights()
    assert torch.equal(network.backbone.norm4.weight, state["norm4.weight"])


def test_the_card_says_what_the_run_knows(run, tmp_path):
    folder, _ = run
    done = export_backbone(folder, tmp_path / "mine.pth", licence="cc-by-4.0", description="For tests.")
    text = done.card.read_text()
    assert done.sha256 == hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    for part in (
        *("license: cc-by-4.0", "For tests.", done.sha256, "type='rsfoundation.LSKNet', arch='t'"),
        *("SceneDataset", "RandomResizedCrop", "AdamW: lr 0.002", "batch of 8 per rank", "epoch 3, iter 12"),
        *("random weights", "top1 0.8750 (test.json)", "top1 0.7500 (last validation)", "loss 0.5000"),
        *("checkpoint='mine.pth'", "SceneClassifier"),
    ):
        assert part in text, part
    assert str(folder) not in text, "no path of this computer"


def test_weights_that_training_started_from_are_named_with_their_licence(tmp_path):
    changes = ["model.backbone.init_cfg.type=Pretrained", "model.backbone.init_cfg.checkpoint=lsknet_t-in1k"]
    make_run(tmp_path / "run", tmp_path, changes=changes)
    text = export_backbone(tmp_path / "run", tmp_path / "mine.pth").card.read_text()
    assert "lsknet_t-in1k: licence CC BY-NC 4.0" in text and "licence: not stated" in text


def test_the_encoder_of_a_pyramid_is_exported(tmp_path):
    encoder = dict(
        type="rsfoundation.RSMamba",
        arch=dict(embed_dims=16, num_layers=4, feedforward_channels=32),
        img_size=64,
        out_type="featmap",
        out_indices=[0, 1, 2, 3],
    )
    backbone = MODELS.build(dict(type="PlainPyramid", encoder=encoder))
    state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    torch.save(dict(state_dict=state, meta={}), tmp_path / "epoch_1.pth")
    pyramid = dict(type="rsfoundation.PlainPyramid", encoder=encoder)
    model = dict(type="mmseg.EncoderDecoder", backbone=pyramid)
    (tmp_path / "config.py").write_text(f"model = {model!r}\n")
    done = export_backbone(tmp_path / "epoch_1.pth", tmp_path / "encoder.pth")
    plain = MODELS.build({**encoder, "init_cfg": dict(type="Pretrained", checkpoint=str(done.output))})
    plain.init_weights()
    assert not plain.load_report.missing and not plain.load_report.skipped


def test_what_cannot_be_exported_is_named(run, tmp_path):
    folder, _ = run
    with pytest.raises(ConfigError, match="is neither a"):
        export_backbone(folder, tmp_path / "mine.onnx")
    other = ROOT / "configs" / "quickstart" / "recognition_toy_lwganet_l0.py"
    with pytest.raises(CheckpointError, match="belongs to another model"):
        export_backbone(folder, tmp_path / "mine.pth", config=other)
    assert not (tmp_path / "mine.pth").exists()
    content = torch.load(folder / "epoch_3.pth", weights_only=False)
    content["meta"]["lora_base"] = "base.pth"
    torch.save(content, folder / "epoch_3.pth")
    with pytest.raises(CheckpointError, match="adapters") as caught:
        export_backbone(folder, tmp_path / "mine.pth")
    assert "merge-lora" in caught.value.fix
    del content["meta"]["lora_base"]  # adapters and weights in one file
    content["state_dict"]["backbone.layer.lora_A.default.weight"] = torch.zeros(1)
    torch.save(content, folder / "epoch_3.pth")
    with pytest.raises(CheckpointError, match="not merged into the weights"):
        export_backbone(folder, tmp_path / "mine.pth")
