"""The backbone that one task trained starts another task, by one config line."""

import pytest
import torch

from rsfoundation.engine.config import find_config, load_config
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.prepare.toy.make import make_toy_scenes
from rsfoundation.registry import MODELS


def one_step(root, task):
    """A quickstart that sees two tiny scenes once."""
    scenes = root / "toy"
    make_toy_scenes(scenes, size=64, counts=dict(train=2, val=1), large_size=(64, 64), tasks=[task])
    return load_config(
        f"quickstart/{task}_toy_lsknet_t",
        [f"{split}_dataloader.dataset.data_root={scenes}/{task}" for split in ("train", "val", "test")]
        + ["train_dataloader.batch_size=2", "train_cfg.max_epochs=1", "train_cfg.val_interval=1"],
    )


@pytest.mark.parametrize("source,target", [("segmentation", "change"), ("segmentation", "instance")])
def test_the_backbone_of_one_task_starts_another(tmp_path, source, target):
    trained = train(one_step(tmp_path, source), RunOptions(work_dir=tmp_path / "run", device="cpu"))
    config = tmp_path / "started.py"
    base = find_config(f"quickstart/{target}_toy_lsknet_t")
    start = f"dict(type='Pretrained', checkpoint='{trained.last_checkpoint}')"
    config.write_text(f"_base_ = '{base}'\nmodel = dict(backbone=dict(init_cfg={start}))\n")
    cfg = load_config(config)

    model = MODELS.build(cfg.model.backbone)
    model.init_weights()

    saved = torch.load(trained.last_checkpoint, weights_only=False)["state_dict"]
    own = model.state_dict()
    assert own and all(torch.equal(value, saved[f"backbone.{key}"]) for key, value in own.items())
