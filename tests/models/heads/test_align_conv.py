"""One alignment convolution per level, each computing what mmrotate's does with that level's weights."""

import torch
from mmrotate.models.layers import AlignConv

from rsfoundation.models.heads.align_conv import PerLevelAlignConv

STRIDES = [8, 16]


def boxes_of(generator, height, width, stride):
    centres = torch.cartesian_prod(torch.arange(height) * stride, torch.arange(width) * stride).flip(1)
    sizes = torch.rand(len(centres), 2, generator=generator) * 3 * stride + stride
    angles = torch.rand(len(centres), 1, generator=generator) * 3 - 1.5
    return torch.cat([centres.float(), sizes, angles], dim=1)


def test_every_level_computes_with_its_own_weights():
    generator = torch.Generator().manual_seed(0)
    module = PerLevelAlignConv(8, 3, STRIDES)
    module.init_weights()
    maps = [torch.rand(2, 8, 6, 5, generator=generator), torch.rand(2, 8, 3, 3, generator=generator)]
    boxes = [
        [boxes_of(generator, *m.shape[2:], s) for m, s in zip(maps, STRIDES, strict=True)] for _ in range(2)
    ]
    found = module(maps, boxes)
    for level, stride in enumerate(STRIDES):
        alone = AlignConv(8, 3, [stride])
        alone.deform_conv.weight.data = module.ac[level].deform_conv.weight.data
        expected = alone([maps[level]], [[image[level]] for image in boxes])[0]
        torch.testing.assert_close(found[level], expected)
    assert not torch.equal(module.ac[0].deform_conv.weight, module.ac[1].deform_conv.weight)


def test_boxes_on_the_grid_make_a_plain_convolution():
    """A box of three cells about its own cell samples just where an ordinary 3 x 3 kernel does."""
    module = PerLevelAlignConv(4, 3, [8])
    x = torch.rand(1, 4, 5, 7)
    centres = torch.cartesian_prod(torch.arange(5.0), torch.arange(7.0)).flip(1) * 8
    boxes = torch.cat([centres, torch.full((35, 2), 24.0), torch.zeros(35, 1)], dim=1)
    expected = torch.nn.functional.conv2d(x, module.ac[0].deform_conv.weight, padding=1).relu()
    torch.testing.assert_close(module([x], [[boxes]])[0], expected, rtol=1e-4, atol=1e-5)


def test_keys_are_those_of_mmrotate_0():
    assert set(PerLevelAlignConv(4, 3, [8, 16, 32]).state_dict()) == {
        f"ac.{level}.deform_conv.weight" for level in range(3)
    }
