import pytest
import torch
from cd_golden import Golden, recipe

from rsfoundation.models.losses import BatchDiceLoss, BCLLoss, ImageDiceLoss, SoftmaxFocalLoss


@pytest.mark.parametrize(
    ("name", "options", "ignored_rows"),
    [("clean", {}, 0), ("ignored_fn", {}, 2), ("module", {"eps": 255}, 0)],
)
def test_contrastive_loss_equals_official_values(name, options, ignored_rows):
    golden = Golden("cd_bcl_loss")
    distance = 2 * torch.from_numpy(recipe.image("pred", (2, 1, 12, 10))).abs()
    label = (torch.from_numpy(recipe.image("gt", (2, 12, 10))) > 0.5).long()
    label[:, :ignored_rows] = 255
    golden.check(name, BCLLoss(**options)(distance, label)[None])


def test_contrastive_loss_is_not_damped_by_the_ignored_label():
    distance, label = torch.full((1, 1, 4, 4), 2.0), torch.zeros(1, 4, 4, dtype=torch.long)
    assert float(BCLLoss()(distance, label)) == pytest.approx(4.0, rel=1e-4)
    assert float(BCLLoss(eps=255)(distance, label)) == pytest.approx(4 * 16 / (16 + 255), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "channels"),
    [(BatchDiceLoss(), 1), (ImageDiceLoss(), 2), (SoftmaxFocalLoss(), 2), (BCLLoss(), 1)],
)
def test_ignored_pixels_take_no_gradient(loss, channels):
    pred = torch.rand(2, channels, 4, 4, requires_grad=True)
    label = torch.randint(2, (2, 4, 4))
    label[:, :2] = 255
    loss(pred, label).backward()
    assert not pred.grad[:, :, :2].any() and pred.grad[:, :, 2:].any()


@pytest.mark.parametrize("loss", [ImageDiceLoss(), SoftmaxFocalLoss()])
def test_certain_and_right_predictions_cost_nothing(loss):
    label = torch.randint(2, (2, 8, 8))
    logits = 50.0 * torch.stack([1 - 2.0 * label, 2.0 * label - 1], dim=1)
    assert float(loss(logits, label)) == pytest.approx(0, abs=1e-5)


def test_an_image_without_known_pixels_costs_nothing():
    label = torch.full((1, 4, 4), 255)
    assert float(SoftmaxFocalLoss()(torch.randn(1, 2, 4, 4), label)) == 0
