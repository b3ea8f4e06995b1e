import numpy as np
import pytest
import torch
from locations import CONFIGS
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import InstanceData

from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.registry import MODELS

QUICKSTARTS = ["instance_toy_lsknet_t", "instance_toy_rs4d", "instance_toy_rsprompter"]
SIZE = 128


@pytest.fixture(autouse=True)
def _mmdet_scope():
    before = DefaultScope.get_current_instance()
    init_default_scope("mmdet")
    yield
    if before is not None:
        init_default_scope(before.scope_name)


def build(name):
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIGS / "quickstart" / f"{name}.py")
    drop_sync_bn(cfg)
    model = MMDET_MODELS.build(cfg.model)
    model.init_weights()
    return model


def batch(count=2):
    """Grey images with one bright square each."""
    images, samples = [], []
    for number in range(count):
        left = 20 + 30 * number
        image = torch.full((3, SIZE, SIZE), 60, dtype=torch.uint8)
        image[:, 40:72, left : left + 32] = 220
        mask = np.zeros((1, SIZE, SIZE), np.uint8)
        mask[0, 40:72, left : left + 32] = 1
        truth = InstanceData(
            bboxes=HorizontalBoxes(torch.tensor([[left, 40.0, left + 32, 72.0]])),
            labels=torch.tensor([2]),
            masks=BitmapMasks(mask, SIZE, SIZE),
        )
        meta = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0), img_id=number)
        samples.append(DetDataSample(metainfo=meta, gt_instances=truth))
        images.append(image)
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize("name", QUICKSTARTS)
def test_loss_falls_and_predictions_have_masks(name):
    model = build(name).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        data = model.data_preprocessor(batch(), True)
        loss, _ = model.parse_losses(model(**data, mode="loss"))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    with torch.no_grad():
        (sample, _) = model.eval().test_step(batch())
    found = sample.pred_instances
    assert found.masks.shape == (len(found.scores), SIZE, SIZE)
    assert found.masks.dtype == torch.bool


def test_frozen_encoder_keeps_still():
    cfg = Config.fromfile(CONFIGS / "quickstart" / "instance_toy_rs4d.py").model
    cfg.backbone_freeze = True
    model = MODELS.build(cfg).train()
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert not model.backbone.training
    assert model.neck.training


@pytest.mark.parametrize("name", ["b_all"])
def test_base_configs_declare_the_channels_of_their_outputs(name):
    cfg = Config.fromfile(CONFIGS / "_base_" / "backbones" / f"rsmamba_{name}.py")
    with torch.device("meta"):
        encoder = MODELS.build(dict(cfg.backbone, img_size=64, dt_init="torch"))
    assert list(encoder.out_channels) == cfg.backbone_channels
    assert encoder.out_indices[-1] == len(encoder.layers) - 1
