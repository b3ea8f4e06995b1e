import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from rsfoundation.ops import box_iou_rotated
from rsfoundation.ops.kernels.threads import run_chunks


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("count", "grain", "pieces"), [(0, 1, 1), (1, 1, 1), (7, 1, 3), (100, 30, 1), (5, 100, 2)]
)
def test_every_item_is_visited_once(two_threads, count, grain, pieces):
    visits = np.zeros(count, dtype=int)

    def kernel(start, stop):
        visits[start:stop] += 1

    run_chunks(kernel, count, grain=grain, pieces=pieces)
    assert visits.tolist() == [1] * count


def test_parts_run_at_once(two_threads):
    meeting = threading.Barrier(2, timeout=60)

    def kernel(start, stop):
        meeting.wait()  # a part alone would wait in vain

    run_chunks(kernel, 2)


def test_errors_reach_the_caller(two_threads):
    def kernel(start, stop):
        raise ValueError(f"part from {start}")

    with pytest.raises(ValueError, match="part from 0"):
        run_chunks(kernel, 4)


def test_kernels_run_from_several_threads(two_threads):
    boxes = torch.rand(400, 5) * 50
    expected = box_iou_rotated(boxes, boxes)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: box_iou_rotated(boxes, boxes), range(8)):
            assert torch.equal(result, expected)


def test_a_forked_child_gets_threads_of_its_own(two_threads):
    def kernel(start, stop):
        visits[start:stop] += 1

    visits = np.zeros(8, dtype=int)
    run_chunks(kernel, 8)  # the parent's pool exists now, and its threads do not follow into the child
    child = os.fork()
    if child == 0:
        run_chunks(kernel, 8)
        os._exit(0 if visits.tolist() == [2] * 8 else 1)
    assert os.waitpid(child, 0)[1] == 0
