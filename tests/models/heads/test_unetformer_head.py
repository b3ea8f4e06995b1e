"""UNetFormer's decoder: equal to the published one written plainly, for maps of any size, in training too."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from locations import BENCHMARKS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.unetformer_head import UNetFormerHead, reflect_end
from rsfoundation.registry import MODELS

sys.path.insert(0, str(BENCHMARKS))
from plain_unetformer import plain_unetformer

CHANNELS = (16, 24, 40, 48)


def head(**options):
    torch.manual_seed(0)
    built = UNetFormerHead(CHANNELS, num_classes=5, **options)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5)):
                nn.init.uniform_(tensor, low, low + 1)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
        if hasattr(module, "relative_position_bias_table"):
            nn.init.normal_(module.relative_position_bias_table)
    for fusion in (built.fuse3, built.fuse2, built.refine.fuse):
        fusion.weights.data = torch.tensor([0.3, 1.2])
    return built


def maps(sizes, count=2):
    torch.manual_seed(1)
    return [torch.randn(count, width, *size) for width, size in zip(CHANNELS, sizes, strict=True)]


def doubled(height, width):
    return [(height * 2**level, width * 2**level) for level in (3, 2, 1, 0)]


@pytest.mark.parametrize("coarse", [(8, 8), (9, 12), (16, 11)])
def test_equals_the_published_decoder_written_plainly(coarse):
    built, levels = head().eval(), maps(doubled(*coarse))
    with torch.no_grad():
        expected = plain_unetformer(built, levels)
        assert torch.allclose(built(levels), expected, atol=2e-5)
        strided = [x.contiguous(memory_format=torch.channels_last) for x in levels]
        assert torch.allclose(built(strided), expected, atol=2e-5)


def test_training_computes_the_same_and_reaches_every_weight():
    built, levels = head().train(), maps(doubled(8, 8))
    built.dropout = None
    twin = head().train()
    assert torch.allclose(built(levels), plain_unetformer(twin, levels), atol=2e-5)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(5, (1, 256, 256)))) for _ in range(2)]
    losses = built.loss(levels, samples, None)
    assert set(losses) == {"loss_ce", "loss_dice", "loss_aux", "acc_seg"}
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())


def test_positions_are_relative():
    attention = head().block4.attention
    index = attention.relative_position_index
    for here, there in ((0, 0), (0, 63), (63, 0), (9, 14)):
        down, right = here // 8 - there // 8 + 7, here % 8 - there % 8 + 7
        assert index[here, there] == down * 15 + right


@pytest.mark.parametrize("sizes", [[(1, 1)] * 4, doubled(2, 3), [(250, 253), (125, 127), (63, 64), (32, 32)]])
@pytest.mark.parametrize("training", [False, True])
def test_maps_of_any_size_are_decoded(sizes, training):
    built, levels = head().train(training), maps(sizes)
    with torch.set_grad_enabled(training):
        logits = built(levels)
    assert logits.shape == (2, 5, *sizes[0]) and logits.isfinite().all()


def test_reflection_continues_where_torch_stops():
    x = torch.randn(1, 2, 3, 9)
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 7), (0, 4)), mode="reflect")
    assert np.array_equal(reflect_end(x, 7, 4).numpy(), wide)
    assert torch.equal(reflect_end(x, 2, 4), F.pad(x, (0, 4, 0, 2), mode="reflect"))
    assert torch.equal(reflect_end(x[:, :, :1], 2, 0), x[:, :, :1].repeat(1, 1, 3, 1))


def test_the_auxiliary_loss_is_for_training_alone():
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(5, (1, 64, 64)))) for _ in range(2)]
    levels = maps(doubled(2, 2))
    assert "loss_aux" not in head().eval().loss(levels, samples, None)
    lean = head(auxiliary=False)
    assert "loss_aux" not in lean.train().loss(levels, samples, None)
    missing, unexpected = lean.load_state_dict(head().state_dict(), strict=False)
    assert not missing and all(name.startswith("auxiliary.") for name in unexpected)


@pytest.mark.parametrize(("arch", "classes", "millions"), [("l2", 8, 12.6), ("l0", 6, 1.85)])
def test_parameters_are_those_of_the_publication(arch, classes, millions):
    """12.6 M for LWGANet-L2 (its README), counted as published: with the auxiliary part."""
    backbone = MODELS.build(dict(type="LWGANet", arch=arch))
    decoder = UNetFormerHead(backbone.out_channels, num_classes=classes)
    count = sum(p.numel() for part in (backbone, decoder) for p in part.parameters())
    assert round(count / 1e6, 1 if arch == "l2" else 2) == millions


def test_a_resnet18_has_the_parameters_of_the_paper():
    decoder = UNetFormerHead((64, 128, 256, 512), num_classes=6)
    assert round((11_176_512 + sum(p.numel() for p in decoder.parameters())) / 1e6, 1) == 11.7


def test_levels_and_heads_must_fit():
    with pytest.raises(ConfigError, match="four levels"):
        UNetFormerHead((8, 16), num_classes=2)
    with pytest.raises(ConfigError, match="do not divide"):
        UNetFormerHead(CHANNELS, channels=60, num_classes=2)
