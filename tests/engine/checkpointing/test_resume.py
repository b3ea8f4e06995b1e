"""N iterations, resume, N iterations equal 2 N iterations in every bit."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from locations import HELPERS
from mmengine.dataset import DefaultSampler, InfiniteSampler
from noisy_task import Stopped, differences, noisy_config, stopping
from torch.utils.data import DataLoader

from rsfoundation.engine.checkpointing.resume import make_resumable, preserved_rng, rng_state
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.io.checkpoints import read_checkpoint


def options(folder, **more):
    return RunOptions(folder, device="cpu", seed=7, **more)


@pytest.mark.parametrize(
    ("loop", "workers", "stop"), [("epoch", 2, 9), ("iter", 0, 11), ("iter over epochs", 0, 6)]
)
def test_a_resumed_run_equals_an_undisturbed_one(tmp_path, loop, workers, stop):
    check_resumed(tmp_path, loop, workers, stop)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loop", "workers", "stop"), [("epoch", 0, 9), ("iter", 2, 11), ("iter over epochs", 2, 6)]
)
def test_so_it_does_with_and_without_workers(tmp_path, loop, workers, stop):
    check_resumed(tmp_path, loop, workers, stop)


def check_resumed(tmp_path, loop, workers, stop):
    config = noisy_config(tmp_path, loop, workers)
    whole = train(config, options(tmp_path / "whole"))
    with pytest.raises(Stopped):
        train(stopping(config, stop), options(tmp_path / "parts"))
    parts = train(config, options(tmp_path / "parts", resume="auto"))
    assert whole.last_checkpoint.name == parts.last_checkpoint.name == "iter_18.pth"
    assert not differences(whole.last_checkpoint, parts.last_checkpoint)
    assert [path.name for path in (whole.best_checkpoint, parts.best_checkpoint)].count(
        whole.best_checkpoint.name
    ) == 2
    records = [json.loads((result.work_dir / "metrics.json").read_text()) for result in (whole, parts)]
    assert records[0]["val"] == records[1]["val"]
    assert [row["loss"] for row in records[0]["train"]] == [row["loss"] for row in records[1]["train"]]


def test_a_run_killed_before_its_validation_catches_up(tmp_path):
    """The checkpoint of the last iteration of an epoch is saved before that epoch's validation."""
    config = noisy_config(tmp_path, "epoch", every=6)
    whole = train(config, options(tmp_path / "whole"))
    with pytest.raises(Stopped):
        train(stopping(config, 6), options(tmp_path / "parts"))
    parts = train(config, options(tmp_path / "parts", resume="auto"))
    assert not differences(whole.last_checkpoint, parts.last_checkpoint)
    rows = json.loads((tmp_path / "parts" / "metrics.json").read_text())["val"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What ``ranks.py`` left."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(HELPERS / "ranks.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def said(run):
    return "".join(file.read_text() for file in run.glob("*/*.log"))


def test_two_ranks_go_on_exactly(ranks):
    assert not differences(ranks / "whole" / "iter_9.pth", ranks / "2-to-2" / "iter_9.pth")
    assert "samples a step" not in said(ranks / "2-to-2")


@pytest.mark.parametrize(("before", "after", "done"), [(2, 1, 8), (1, 2, 16)])
def test_another_number_of_ranks_goes_on_in_the_same_order(ranks, before, after, done):
    run = ranks / f"{before}-to-{after}"
    assert "samples a step" in said(run)
    assert read_checkpoint(run / "start.pth")["meta"]["resume"]["samples"] == done


def sides(count=10):
    return torch.utils.data.TensorDataset(torch.arange(count))


def indices(loader, round_, skip, stop=None):
    loader.batch_sampler.start(round_, skip)
    found = []
    for batch in loader.batch_sampler:
        found.append([(int(index), index.seed) for index in batch])
        if stop and len(found) == stop:
            break
    return found


@pytest.mark.parametrize("kind", [DefaultSampler, InfiniteSampler])
def test_batches_are_skipped_with_their_seeds(kind):
    def loader():
        data = sides()
        loader = DataLoader(data, batch_size=3, sampler=kind(data, shuffle=True, seed=1))
        assert make_resumable(loader, 5)
        return loader

    whole = indices(loader(), 0, 0, 4)
    assert indices(loader(), 0, 2, 2) == whole[2:]
    seeds = [seed for batch in indices(loader(), 0, 0, 3) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


def test_another_epoch_draws_other_numbers():
    data = sides()
    loader = DataLoader(data, batch_size=3, sampler=DefaultSampler(data, shuffle=False, seed=1))
    make_resumable(loader, 5)
    first, second = indices(loader, 0, 0), indices(loader, 1, 0)
    assert all(
        a[0] == b[0] and a[1] != b[1]
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_streams_are_left_alone():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(3))

    loader = DataLoader(Stream())
    assert not make_resumable(loader, 1) and list(loader)


def test_loading_draws_nothing_from_the_training():
    loader = DataLoader(sides(), batch_size=2)
    make_resumable(loader, 1)
    before = rng_state()["torch"]
    list(loader)
    assert torch.equal(before, rng_state()["torch"])
    with preserved_rng():
        torch.rand(3)
    assert torch.equal(before, rng_state()["torch"])


def test_a_copied_run_folder_leaves_the_best_checkpoint_of_the_original(tiny_config, monkeypatch):
    """mmengine 0.10.12 removes the previous best checkpoint by the absolute path that it was saved under."""
    from tiny_task import TinyAccuracy

    original, copy = tiny_config.parent / "run", tiny_config.parent / "copy"
    train(tiny_config, RunOptions(original, device="cpu"))
    best = {file.name for file in original.glob("best_*")}
    shutil.copytree(original, copy)
    monkeypatch.setattr(TinyAccuracy, "compute_metrics", lambda self, results: dict(accuracy=2.0, count=1))
    longer = ("train_cfg.max_epochs=6",)
    train(tiny_config, RunOptions(copy, device="cpu", resume="auto", overrides=longer))
    assert {file.name for file in original.glob("best_*")} == best and len(best) == 1
    better = {file.name for file in copy.glob("best_*")}
    assert len(better) == 1 and better != best, "the copy has a better one in the place of the copied one"
