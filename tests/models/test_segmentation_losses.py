"""UNetFormer's losses against their formulas in float64, pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from rsfoundation.models.losses import BatchClassDiceLoss, SoftCrossEntropyLoss

IGNORED, CLASSES = 255, 4


def sample(seed=0, absent=3):
    """Logits and labels of two images of 5 x 7 pixels; some are ignored, one class is nowhere."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (2, CLASSES, 5, 7))
    labels = rng.integers(0, absent, (2, 5, 7))
    labels[0, :2] = IGNORED
    return logits, labels


def pixels(logits, labels):
    """Yield the probabilities and the label of each pixel, in Python's own numbers."""
    for image, row, column in np.ndindex(*labels.shape):
        raised = [math.exp(value) for value in logits[image, :, row, column]]
        yield [value / sum(raised) for value in raised], int(labels[image, row, column])


def test_soft_cross_entropy_equals_its_formula():
    logits, labels = sample()
    total = 0.0
    for shares, label in pixels(logits, labels):
        if label != IGNORED:
            total += -0.95 * math.log(shares[label]) - 0.05 / CLASSES * sum(map(math.log, shares))
    found = SoftCrossEntropyLoss()(torch.from_numpy(logits), torch.from_numpy(labels))
    assert found.item() == pytest.approx(total / labels.size, rel=1e-12), "ignored pixels count in the mean"


def test_dice_equals_its_formula():
    logits, labels = sample()
    both, sizes, true = [0.0] * CLASSES, [0.0] * CLASSES, [0] * CLASSES
    for shares, label in pixels(logits, labels):
        if label != IGNORED:
            both[label] += shares[label]
            true[label] += 1
            sizes = [size + share for size, share in zip(sizes, shares, strict=True)]
    dice = [
        1 - (2 * both[c] + 0.05) / (sizes[c] + true[c] + 0.05) if true[c] else 0.0 for c in range(CLASSES)
    ]
    found = BatchClassDiceLoss()(torch.from_numpy(logits), torch.from_numpy(labels))
    assert dice[3] == 0 and found.item() == pytest.approx(sum(dice) / CLASSES, rel=1e-12)


@pytest.mark.parametrize("loss", [SoftCrossEntropyLoss(), BatchClassDiceLoss()])
def test_ignored_pixels_take_no_gradient(loss):
    logits, labels = sample()
    pred = torch.from_numpy(logits).requires_grad_()
    loss(pred, torch.from_numpy(labels)).backward()
    assert not pred.grad[0, :, :2].any() and pred.grad[0, :, 2:].abs().sum() > 0


@pytest.mark.parametrize("loss", [SoftCrossEntropyLoss(), BatchClassDiceLoss()])
def test_a_batch_without_labels_costs_nothing(loss):
    pred = torch.randn(1, CLASSES, 4, 4, requires_grad=True)
    value = loss(pred, torch.full((1, 4, 4), IGNORED))
    value.backward()
    assert value.item() == 0 and not pred.grad.any()


def test_dice_sums_large_batches_in_half_precision():
    logits = torch.zeros(2, 2, 512, 512, dtype=torch.float16)
    labels = torch.zeros(2, 512, 512, dtype=torch.long)
    pixel = 2 * 512 * 512
    expected = (1 - (pixel + 0.05) / (1.5 * pixel + 0.05)) / 2
    assert BatchClassDiceLoss()(logits, labels).item() == pytest.approx(expected, rel=1e-4)
