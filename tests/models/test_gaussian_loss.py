"""The loss that compares boxes as Gaussians, against matrices in double precision."""

import math

import numpy as np
import pytest
import torch

from rsfoundation.models.losses import SymmetricKLDLoss, symmetric_divergence


def boxes(count, seed):
    rng = np.random.default_rng(seed)
    table = rng.uniform([0, 0, 2, 2, -4], [60, 60, 60, 60, 4], (count, 5))
    return torch.tensor(table)


def by_matrices(first, second):
    """Both divergences as the textbook writes them, averaged."""
    found = []
    for p, q in zip(first.numpy(), second.numpy(), strict=True):
        means, sigmas = [], []
        for x, y, w, h, t in (p, q):
            turn = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
            means.append(np.array([x, y]))
            sigmas.append(turn @ np.diag([w * w / 4, h * h / 4]) @ turn.T)
        both = 0.0
        for a, b in ((0, 1), (1, 0)):
            inverse, gap = np.linalg.inv(sigmas[b]), means[a] - means[b]
            ratio = np.linalg.det(sigmas[b]) / np.linalg.det(sigmas[a])
            both += (np.trace(inverse @ sigmas[a]) + gap @ inverse @ gap - 2 + math.log(ratio)) / 2
        found.append(both / 2)
    return torch.tensor(found)


def test_the_divergence_is_that_of_the_matrices():
    first, second = boxes(200, 0), boxes(200, 1)
    torch.testing.assert_close(symmetric_divergence(first, second), by_matrices(first, second))
    close = first + torch.randn(200, 5, dtype=torch.float64) * 0.1
    torch.testing.assert_close(symmetric_divergence(first, close), by_matrices(first, close))


def test_it_is_the_symmetric_loss_of_mmrotate():
    from mmrotate.models.losses import GDLoss

    theirs = GDLoss("jd", fun="log1p", tau=1.0, sqrt=False)
    pred, target = boxes(50, 6), boxes(50, 7)
    torch.testing.assert_close(SymmetricKLDLoss()(pred, target), theirs(pred, target))


def test_names_of_one_box_do_not_matter():
    box = torch.tensor([[10.0, 20.0, 30.0, 8.0, 0.4]])
    swapped = torch.tensor([[10.0, 20.0, 8.0, 30.0, 0.4 + math.pi / 2]])
    turned = torch.tensor([[10.0, 20.0, 30.0, 8.0, 0.4 - math.pi]])
    other = torch.tensor([[12.0, 19.0, 25.0, 9.0, 1.1]])
    for same in (swapped, turned):
        assert symmetric_divergence(box, same) == pytest.approx(0, abs=1e-5)
        torch.testing.assert_close(symmetric_divergence(same, other), symmetric_divergence(box, other))


def test_gradients_in_double_precision():
    pred, target = boxes(6, 2).requires_grad_(), boxes(6, 3)
    assert torch.autograd.gradcheck(lambda p: SymmetricKLDLoss()(p, target), pred)


@pytest.mark.parametrize("side", [0.0, 1e-8, 1e-3])
def test_degenerate_boxes_give_finite_losses_and_gradients(side):
    slim = torch.tensor([[5.0, 5.0, 4000.0, side, 0.7], [5.0, 5.0, side, side, 0.7], [1e4, 0, 9, 9, 0]])
    target = torch.tensor([[9.0, 0.0, 20.0, 10.0, 0.1]]).expand(3, 5)
    for pred, truth in ((slim, target), (target, slim)):
        pred = pred.clone().requires_grad_()
        loss = SymmetricKLDLoss()(pred, truth)
        loss.backward()
        assert 0 < loss <= 1 and pred.grad.isfinite().all()


def test_weights_and_averages():
    pred, target = boxes(4, 4), boxes(4, 5)
    single = [SymmetricKLDLoss()(pred[[i]], target[[i]]) for i in range(4)]
    assert SymmetricKLDLoss(3.0)(pred, target) == pytest.approx(3 * float(sum(single)) / 4)
    weight = torch.tensor([1.0, 0.0, 1.0, 0.0])
    pred[1] = pred[1] * 0
    kept = SymmetricKLDLoss()(pred, target, weight[:, None].expand(4, 5), avg_factor=5)
    assert kept == pytest.approx(float(single[0] + single[2]) / 5)
    nothing = SymmetricKLDLoss()(pred.requires_grad_(), target, weight * 0, avg_factor=1)
    nothing.backward()
    assert nothing == 0 and (pred.grad == 0).all()
