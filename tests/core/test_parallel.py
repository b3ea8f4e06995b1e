"""Jobs side by side keep their order and their errors."""

import threading

import pytest

from rsfoundation.core.parallel import run_jobs, with_progress


@pytest.mark.parametrize("workers", [1, 4])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert run_jobs(lambda job: job * job, range(50), workers=workers, title="squares") == [
        job * job for job in range(50)
    ]
    assert run_jobs(lambda job: job, [], workers=workers, title="nothing") == []


def test_one_worker_is_the_calling_thread():
    threads = run_jobs(lambda _: threading.current_thread(), range(3), workers=1, title="threads")
    assert set(threads) == {threading.current_thread()}


def test_workers_run_at_the_same_time():
    barrier = threading.Barrier(3, timeout=30)
    run_jobs(lambda _: barrier.wait(), range(3), workers=3, title="meeting")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_stops_the_rest(workers):
    done = []

    def work(job):
        if job == 2:
            raise ValueError("job 2")
        done.append(job)

    with pytest.raises(ValueError, match="job 2"):
        run_jobs(work, range(10_000), workers=workers, title="failing")
    assert len(done) < 10_000


def test_items_are_handed_on_one_by_one():
    taken = []

    def items():
        for number in range(3):
            taken.append(number)
            yield number

    handed = with_progress(items(), total=3, title="numbers")
    assert next(handed) == 0 and taken == [0]
    assert list(handed) == [1, 2]
