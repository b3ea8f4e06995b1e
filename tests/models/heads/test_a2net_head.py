import pytest
import torch
import torch.nn.functional as F
from cd_golden import Golden
from cd_samples import change_samples

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.segmentors.a2net import A2NetHead


def pyramids(inputs):
    return [[inputs[f"{date}{level}"] for level in (2, 3, 4, 5)] for date in "ab"]


def test_every_part_equals_official_outputs():
    golden = Golden("cd_a2net_head")
    head = golden.load(A2NetHead(**golden.meta["kwargs"]))
    first, second = pyramids(golden.inputs())
    with torch.no_grad():
        before, after = head.swa(first), head.swa(second)
        fused = head.tfm(before, after)
        finest, _ = head.decoder(fused)
        masks = head(first, second)
    for level in range(4):
        golden.check(f"swa{level + 2}", before[level])
        golden.check(f"tfm{level + 2}", fused[level])
        golden.check(f"mask{level + 2}", masks[level])
    golden.check("p2", finest)


def test_the_order_of_the_dates_does_not_matter():
    head = A2NetHead([4, 4, 8, 8], mid=8).eval()
    first, second = ([torch.rand(1, c, 16 >> i, 16 >> i) for i, c in enumerate([4, 4, 8, 8])] for _ in "ab")
    with torch.no_grad():
        for mask, swapped in zip(head(first, second), head(second, first), strict=True):
            torch.testing.assert_close(mask, swapped)


def test_odd_sizes_halved_upwards_are_taken():
    sizes = [(13, 9), (7, 5), (4, 3), (2, 2)]
    maps = [torch.rand(1, 4, *size) for size in sizes]
    head = A2NetHead([4] * 4, mid=4).eval()
    assert [tuple(mask.shape[2:]) for mask in head(maps, maps)] == sizes


def test_loss_is_cross_entropy_and_batch_dice_of_every_level():
    head = A2NetHead([4] * 4, mid=4)
    label = torch.zeros(2, 32, 32)
    label[0, :10, :10] = 1
    label[1, 20:] = 255
    masks = [torch.randn(2, 1, 8 >> i, 8 >> i) for i in range(4)]
    losses = head.loss_by_feat(masks, change_samples(*label))
    assert len(losses) == 8
    for level, mask in zip((2, 3, 4, 5), masks, strict=True):
        logits = F.interpolate(mask, size=(32, 32), mode="bilinear")[:, 0]
        known = label != 255
        expected = F.binary_cross_entropy_with_logits(logits[known], label[known])
        torch.testing.assert_close(losses[f"loss_ce_p{level}"], expected)
        p, y = logits[known].sigmoid(), label[known]
        dice = 1 - (2 * (p * y).sum() + 1e-5) / (p.sum() + y.sum() + 1e-5)
        torch.testing.assert_close(losses[f"loss_dice_p{level}"], dice)


def test_four_levels_are_asked_for():
    with pytest.raises(ConfigError, match="four levels, got channels of 3"):
        A2NetHead([4, 4, 4])
