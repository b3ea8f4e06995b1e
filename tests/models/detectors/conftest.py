"""A fixture that builds whole detectors of the shipped head files."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from oriented_heads import BASE, narrow

from rsfoundation.engine.resolve_config import drop_sync_bn


@pytest.fixture
def build_detector(tmp_path):
    """Return a function that builds a head file on a small backbone, as a config would."""

    def build(head, backbone="lsknet_t_scratch", overrides=None):
        text = (
            f"_base_ = ['{BASE}/backbones/{backbone}.py', '{BASE}/heads/{head}.py']\n"
            "model = dict(backbone={{_base_.backbone}},"
            " neck=dict(in_channels={{_base_.backbone_channels}}))\n"
        )
        (tmp_path / "config.py").write_text(text)
        cfg = Config.fromfile(tmp_path / "config.py")
        narrow(cfg.model)
        cfg.merge_from_dict(overrides or {})
        drop_sync_bn(cfg)
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        return model

    return build
