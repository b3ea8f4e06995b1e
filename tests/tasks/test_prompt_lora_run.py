"""LoRA in a whole prompt model: adapters learn, are saved alone, come back, and merge into a plain model."""

import json

import pytest
import torch
from prompt_models import DECODER, SIZE, VISION, WIDTH, anchor, neck
from prompt_runs import rsf, toy_scenes, write_config

from rsfoundation.io.checkpoints import read_checkpoint
from rsfoundation.models.prompt.sam import SAM

pytest.importorskip("peft", reason="adapters: pip install rsfoundation[peft]")
pytestmark = pytest.mark.slow

LORA = dict(rank=2, alpha=4, target=["qkv"], adapters_only=True)
RATE = 0.01  # of the optimiser: two iterations move the adapters


@pytest.fixture
def sam(tmp_path):
    """Write a small SAM; return its file and weights."""
    torch.manual_seed(0)
    model = SAM("base", VISION, dict(hidden_size=WIDTH, image_size=SIZE), DECODER["extra_config"])
    model.vision_encoder.init_scratch()
    torch.save(model.state_dict(), tmp_path / "sam.pth")
    return tmp_path / "sam.pth", model.state_dict()


def prompter(file, peft_config=None, pretrained_decoder=True):
    """Return RSPrompter-anchor on SAM's encoder; in the decoder, the estimate of the IoU is frozen."""
    start = dict(type="Pretrained", checkpoint=str(file))
    backbone = dict(
        _delete_=True,
        type="rsfoundation.RSSamVisionEncoder",
        extra_config=dict(VISION, output_hidden_states=True),
        peft_config=peft_config,
        init_cfg=start,
    )
    decoder = dict(DECODER, init_cfg=start if pretrained_decoder else None)
    return anchor(backbone=backbone, neck=neck([32] * 3), roi_head=dict(mask_head=dict(mask_decoder=decoder)))


def metrics(folder, run, *words):
    rsf("test", folder, *words, "--work-dir", run, "--device", "cpu")
    return json.loads((run / "test.json").read_text())["metrics"]


def found_objects(folder, config, model):
    scene = next((folder / "toy/instance/large").glob("*.png"))
    out = folder / f"{model.stem}-found"
    rsf("predict", scene, "--model", model, "--config", config, "-o", out, "--score", "0", "--device", "cpu")
    return json.loads((out / f"{scene.stem}.json").read_text())["objects"]


def check_merging(folder, run, base, scale, prefix="backbone.vision_encoder."):
    """Merge a run's adapters, compare weights, test and prediction with those of the plain config.

    Returns:
        The objects found.
    """
    rsf("convert", "merge-lora", run, folder / "merged.pth")
    merged = read_checkpoint(folder / "merged.pth")["state_dict"]
    saved = read_checkpoint(run / "epoch_1.pth")["state_dict"]
    for index in range(2):
        layer = f"layers.{index}.attn.qkv"
        down, up = (saved[f"{prefix}{layer}.lora_{side}.default.weight"] for side in "AB")
        change = scale * up @ down
        assert change.abs().max() > 1e-4, "the adapters have learned"
        wanted = base[f"vision_encoder.{layer}.weight"] + change
        torch.testing.assert_close(merged[f"backbone.vision_encoder.{layer}.weight"], wanted)
    assert not [key for key in merged if "lora_" in key or "base_layer" in key or "base_model" in key]
    adapted = metrics(folder / "config.py", run)
    assert metrics(folder / "plain.py", folder / "plain", folder / "merged.pth") == adapted
    objects = found_objects(folder, folder / "plain.py", folder / "merged.pth")
    of_run = found_objects(folder, folder / "config.py", run)
    scores, wanted = ([one["score"] for one in found] for found in (objects, of_run))
    assert scores == pytest.approx(wanted, abs=1e-4)
    return objects


@pytest.mark.parametrize("pretrained_decoder", [True, False])
def test_adapters_alone_train_test_predict_and_merge(tmp_path, sam, pretrained_decoder):
    file, base = sam
    toy_scenes(tmp_path)
    model = prompter(file, pretrained_decoder=pretrained_decoder)
    write_config(tmp_path, model, rate=RATE, name="plain.py")
    write_config(tmp_path, model, rate=RATE, lora=LORA)
    run = tmp_path / "run"
    rsf("train", tmp_path / "config.py", "--work-dir", run, "--device", "cpu")
    state = read_checkpoint(run / "epoch_1.pth")["state_dict"]
    of_encoder = [key for key in state if key.startswith("backbone.")]
    assert len(of_encoder) == 4 and all(".lora_" in key for key in of_encoder)
    estimate = "roi_head.mask_head.mask_decoder.mask_decoder.iou_prediction_head.proj_in.weight"
    assert (estimate in state) == (not pretrained_decoder), "what no file holds stays in the checkpoint"
    objects = check_merging(tmp_path, run, base, scale=LORA["alpha"] / LORA["rank"])
    assert objects or not pretrained_decoder, "masks of a decoder from random weights may be empty"


def test_adapters_of_the_published_configs_merge(tmp_path, sam):
    file, base = sam
    toy_scenes(tmp_path)
    write_config(tmp_path, prompter(file), rate=RATE, name="plain.py")
    write_config(tmp_path, prompter(file, dict(r=2, lora_alpha=4, lora_dropout=0.0)), rate=RATE)
    run = tmp_path / "run"
    rsf("train", tmp_path / "config.py", "--work-dir", run, "--device", "cpu")
    assert check_merging(tmp_path, run, base, 4 / 2, prefix="backbone.vision_encoder.base_model.model.")
