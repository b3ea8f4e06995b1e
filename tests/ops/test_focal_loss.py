import math

import pytest
import torch
from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss

from rsfoundation.ops import sigmoid_focal, sigmoid_focal_slope, softmax_focal, softmax_focal_slope


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 5, generator=generator, dtype=torch.float64) * 3
    return logits, torch.arange(20) % 5


def plain_sigmoid(logits, target, gamma, alpha, weight):
    one_hot = torch.nn.functional.one_hot(target, 6)[:, :5].to(logits)
    p = logits.sigmoid()
    loss = -alpha * (1 - p) ** gamma * p.log() * one_hot
    loss = loss - (1 - alpha) * p**gamma * (1 - p).log() * (1 - one_hot)
    return loss if weight is None else loss * torch.cat([weight, weight.new_ones(1)])[target][:, None]


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_equals_the_formula(case, gamma, weighted):
    logits, target = case[0], torch.arange(20) % 6  # 5 is background
    weight = torch.rand(5, dtype=torch.float64) if weighted else None
    args = (target, gamma, 0.25, weight)
    loss, slope = sigmoid_focal(logits, *args), sigmoid_focal_slope(logits, *args)
    expected = plain_sigmoid(logits.requires_grad_(), target, gamma, 0.25, weight)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), logits)[0])


def test_softmax_equals_the_formula(case):
    logits, target = case
    weight = torch.rand(5, dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    p = leaf.softmax(1).gather(1, target[:, None])[:, 0]
    expected = -0.25 * (1 - p) ** 2 * p.log() * weight[target]
    args = (logits.softmax(1), target, 2.0, 0.25, weight)
    loss, slope = softmax_focal(*args), softmax_focal_slope(*args)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), leaf)[0])


def test_softmax_ignores_negative_targets(case):
    args = (case[0].softmax(1), torch.full((20,), -1), 2.0, 0.25)
    loss, slope = softmax_focal(*args), softmax_focal_slope(*args)
    assert loss.abs().sum() == 0
    assert slope.abs().sum() == 0


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4]])
    args = (logits, torch.tensor([1]), 2.0, 0.25)
    loss, slope = sigmoid_focal(*args), sigmoid_focal_slope(*args)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.0])
def test_float32_up_to_logits_of_100(gamma):
    logits = torch.cat([torch.linspace(-100, 100, 4001), torch.tensor([0.0, -0.0])])[:, None]
    for target in (torch.zeros(len(logits), dtype=torch.long), torch.ones(len(logits), dtype=torch.long)):
        for call in (sigmoid_focal, sigmoid_focal_slope):
            exact = call(logits.double(), target, gamma, 0.25)
            torch.testing.assert_close(
                call(logits, target, gamma, 0.25).double(), exact, atol=1e-6, rtol=1e-6
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_nan_stays_and_minus_infinity_costs_nothing(dtype, gamma):
    logits = torch.tensor([[math.nan, -math.inf, 1.0]], dtype=dtype)
    for call in (sigmoid_focal, sigmoid_focal_slope):
        result = call(logits, torch.tensor([3]), gamma, 0.25)[0]
        assert result.isnan().tolist() == [True, False, False]
        assert abs(result[1]) < 1e-30
        assert call(logits, torch.tensor([0]), gamma, 0.25)[0, 0].isnan()


def test_no_rows_no_classes_and_half_types():
    assert sigmoid_focal(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 2.0, 0.25).shape == (0, 3)
    assert sigmoid_focal_slope(torch.zeros(2, 0), torch.zeros(2, dtype=torch.long), 2.0, 0.25).shape == (2, 0)
    logits, target = torch.randn(4, 3).bfloat16(), torch.arange(4)
    expected = sigmoid_focal(logits.float(), target, 2.0, 0.25).bfloat16()
    torch.testing.assert_close(sigmoid_focal(logits, target, 2.0, 0.25), expected)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_gradient_through_mmcv(case, reduction):
    logits, target = case
    if reduction != "none":
        args = (target, 2.0, 0.25, None, reduction)
        assert torch.autograd.gradcheck(lambda x: softmax_focal_loss(x, *args), (logits.requires_grad_(),))
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, None, reduction), (logits.requires_grad_(),)
    )
