import numpy as np
import pytest

from rsfoundation.core.task import Window
from rsfoundation.geometry.windows import window_grid
from rsfoundation.inference.window_merge import WindowMerge, taper


def scores_of(labels, window, classes, sharpness=0.8):
    part = labels[window.top : window.top + window.height, window.left : window.left + window.width]
    scores = np.full((classes, *part.shape), (1 - sharpness) / (classes - 1), np.float32)
    np.put_along_axis(scores, part[None], sharpness, axis=0)
    return scores


@pytest.mark.parametrize(
    ("height", "width", "size", "overlap"), [(70, 90, 32, 8), (20, 50, 64, 10), (64, 64, 32, 0)]
)
def test_consistent_windows_give_the_scene_back(height, width, size, overlap):
    labels = np.random.default_rng(0).integers(0, 4, (height, width))
    merge = WindowMerge(height, width, 4)
    for window in window_grid(height, width, size, overlap):
        merge.add(window, scores_of(labels, window, 4))
    np.testing.assert_array_equal(merge.labels(), labels)


def test_merge_equals_the_weighted_average_over_the_whole_scene():
    random = np.random.default_rng(1)
    height, width = 50, 60
    merge, total = WindowMerge(height, width, 3), np.zeros((3, height, width))
    for window in window_grid(height, width, 24, 10):
        scores = random.random((3, window.height, window.width), dtype=np.float32)
        merge.add(window, scores)
        rows, columns = slice(window.top, window.top + 24), slice(window.left, window.left + 24)
        total[:, rows, columns] += scores * taper(24, 24)
    np.testing.assert_array_equal(merge.labels(), total.argmax(axis=0))


def test_a_window_that_sees_the_context_outvotes_one_at_its_border():
    merge = WindowMerge(32, 48, 2)
    merge.add(Window(0, 0, 32, 32), np.stack([np.ones((32, 32)), np.zeros((32, 32))]).astype(np.float32))
    merge.add(Window(16, 0, 32, 32), np.stack([np.zeros((32, 32)), np.ones((32, 32))]).astype(np.float32))
    row = merge.labels()[16]
    assert row[:24].max() == 0 and row[24:].min() == 1  # the seam is in the middle of the overlap


def test_only_rows_in_work_are_held_as_scores():
    merge = WindowMerge(640, 64, 5)
    for window in window_grid(640, 64, 64, 16):
        merge.add(window, np.zeros((5, 64, 64), np.float32))
        assert merge._scores.shape[1] <= 64


def test_windows_out_of_order_and_of_wrong_shape_are_refused():
    merge = WindowMerge(100, 32, 2)
    merge.add(Window(0, 50, 32, 32), np.zeros((2, 32, 32), np.float32))
    with pytest.raises(ValueError, match="top down"):
        merge.add(Window(0, 0, 32, 32), np.zeros((2, 32, 32), np.float32))
    with pytest.raises(ValueError, match="expected scores of shape"):
        merge.add(Window(0, 60, 32, 32), np.zeros((3, 32, 32), np.float32))


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_taper_is_symmetric_and_positive(size):
    weights = taper(size, size)
    np.testing.assert_allclose(weights, weights[::-1, ::-1])
    assert weights.min() > 0 and weights.max() <= 1


@pytest.mark.parametrize("with_probabilities", [False, True])
def test_rows_with_few_windows_settle_their_other_columns_as_no_data(with_probabilities, monkeypatch):
    monkeypatch.setattr("rsfoundation.inference.window_merge._COLUMNS", 7)
    windows = [Window(left, top, 16, 16) for top in (0, 12, 24) for left in (0, 12, 60, 84)]
    random = np.random.default_rng(2)
    total, seen = np.zeros((3, 40, 100)), np.zeros((40, 100), bool)
    rows = []

    class Sink:
        def write(self, labels, probabilities):
            rows.append((labels.copy(), None if probabilities is None else probabilities.copy()))

    merge = WindowMerge(
        40, 100, 3, sink=Sink(), tops=(0, 12, 24), nodata=255, with_probabilities=with_probabilities
    )
    for window in windows[:5] + windows[6:]:  # the second row has a hole where the first one had a window
        scores = random.random((3, 16, 16), dtype=np.float32)
        scores /= scores.sum(axis=0)
        merge.add(window, scores)
        part = slice(window.top, window.top + 16), slice(window.left, window.left + 16)
        total[(slice(None), *part)] += scores * taper(16, 16)
        seen[part] = True
        assert merge._block.shape[1:] <= (16, 40)
    merge.finish()
    expected = np.where(seen, total.argmax(axis=0), 255)
    np.testing.assert_array_equal(np.concatenate([labels for labels, _ in rows]), expected)
    if with_probabilities:
        shares = np.concatenate([shares for _, shares in rows])
        assert (shares[~seen] == 255).all() and (np.abs(shares[seen].sum(axis=1) - 254.0) <= 2).all()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_logits_become_probabilities_in_any_memory_order(order):
    shape = [(5, 37, 21)[axis] for axis in np.argsort(order)]
    logits = np.random.default_rng(3).normal(0, 30, shape).astype(np.float32).transpose(order)
    logits[0, 0, 0], logits[1, 1, 1] = -np.inf, 1e4
    rows = []

    class Sink:
        def write(self, labels, probabilities):
            rows.append((labels, probabilities))

    merge = WindowMerge(37, 21, 5, sink=Sink(), with_probabilities=True)
    merge.add(Window(0, 0, 21, 37), logits, are_logits=True)
    merge.finish()
    exact = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    exact /= exact.sum(axis=0)
    ((labels, probabilities),) = rows
    np.testing.assert_array_equal(labels, logits.argmax(axis=0))
    assert np.abs(probabilities - 254 * exact.transpose(1, 2, 0)).max() <= 0.501


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("are_logits", [False, True])
def test_scores_that_are_not_finite_are_refused(value, are_logits):
    scores = np.zeros((3, 40, 20), np.float32)
    scores[1, 39, 3] = value
    with pytest.raises(FloatingPointError, match="not finite"):
        WindowMerge(40, 20, 3).add(Window(0, 0, 20, 40), scores, are_logits=are_logits)
