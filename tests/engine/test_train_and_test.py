"""Training, resuming, testing and their records, on a task that trains in a second."""

import dataclasses
import json
import shutil

import pytest
import torch

from rsfoundation.core.errors import CheckpointError, ConfigError, DataError
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from tiny_task import write_config

    config = write_config(tmp_path_factory.mktemp("trained"))
    options = RunOptions(work_dir=config.parent / "run", device="cpu", seed=3)
    return config, options, train(config, options)


def test_a_run_learns_and_leaves_its_record(trained):
    _, options, result = trained
    folder = options.work_dir
    assert result.metrics["accuracy"] == 1.0
    assert result.best_checkpoint.is_file() and result.last_checkpoint.name == "epoch_4.pth"
    record = json.loads((folder / "metrics.json").read_text())
    assert [row["epoch"] for row in record["val"]] == [2, 4]
    assert record["train"][-1]["loss"] < record["train"][0]["loss"]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "TinyNet" in (folder / "config.py").read_text()
    assert (folder / "curves.png").stat().st_size > 1000
    assert len(list((folder / "pictures" / "val").glob("*.png"))) == 4


def test_testing_takes_the_best_checkpoint_and_writes_unified_json(trained):
    config, options, result = trained
    tested = run_test(config, None, options, pictures=3)
    assert tested.metrics == {"accuracy": 1.0}
    assert tested.details == {"count": 24}
    assert tested.checkpoint == str(result.best_checkpoint)
    written = json.loads((options.work_dir / "test.json").read_text())
    assert set(written) == {
        "task",
        "config",
        "checkpoint",
        "metrics",
        "details",
        "pictures",
        "reports",
        "seconds",
    }
    assert len(list((options.work_dir / "pictures" / "test").glob("*.png"))) == 3


def test_classes_in_another_order_than_the_checkpoint_s_are_not_tested(trained, tmp_path):
    config, options, result = trained
    turned = "test_dataloader.dataset.metainfo.classes=left,right"
    other = dataclasses.replace(options, work_dir=tmp_path, overrides=(turned,))
    with pytest.raises(
        ConfigError, match="the checkpoint: right, left; the test data: left, right"
    ) as caught:
        run_test(config, result.best_checkpoint, other)
    assert "classes=('right', 'left')" in caught.value.fix
    assert not (tmp_path / "test.json").exists()


def test_a_checkpoint_of_another_model_is_not_tested(trained, tmp_path):
    config, options, result = trained
    wider = dataclasses.replace(options, work_dir=tmp_path, overrides=("model.width=8",))
    with pytest.raises(CheckpointError, match="shapes differ") as caught:
        run_test(config, result.best_checkpoint, wider)
    assert caught.value.where == str(result.best_checkpoint)
    content = torch.load(result.best_checkpoint, weights_only=False)
    name, _ = content["state_dict"].popitem(last=False)
    content["state_dict"]["neck.weight"] = torch.zeros(3)
    torch.save(content, tmp_path / "other.pth")
    plain = dataclasses.replace(options, work_dir=tmp_path)
    with pytest.raises(
        CheckpointError, match=f"1 missing keys, first: {name}; 1 unexpected keys, first: neck.weight"
    ):
        run_test(config, tmp_path / "other.pth", plain)


def test_resume_goes_on_with_epoch_and_record(trained, tmp_path):
    config, options, _ = trained
    run = tmp_path / "moved"
    shutil.copytree(options.work_dir, run)
    more = RunOptions(run, resume="auto", device="cpu", seed=3, overrides=("train_cfg.max_epochs=6",))
    result = train(config, more)
    assert result.last_checkpoint == run / "epoch_6.pth"
    record = json.loads((run / "metrics.json").read_text())
    assert [row["epoch"] for row in record["val"]] == [2, 4, 6]
    iterations = [row["iter"] for row in record["train"]]
    assert iterations == sorted(set(iterations)) and iterations[-1] == 36


def test_the_same_seed_gives_the_same_weights(trained, tmp_path):
    config, options, first = trained
    second = train(config, dataclasses.replace(options, work_dir=tmp_path / "again"))
    states = [
        torch.load(result.last_checkpoint, weights_only=False)["state_dict"] for result in (first, second)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_amp_on_cpu_is_bfloat16(tiny_config):
    result = train(tiny_config, RunOptions(tiny_config.parent / "amp", device="cpu", amp=True))
    assert "CPUAmpOptimWrapper" in (result.work_dir / "config.py").read_text()


def test_sync_bn_is_bn_in_one_process(trained):
    _, options, _ = trained
    assert "SyncBN" not in (options.work_dir / "config.py").read_text()


def test_a_training_without_a_batch_is_refused(tiny_config):
    more = ("train_dataloader.batch_size=1000", "train_dataloader.drop_last=True")
    with pytest.raises(DataError, match="fill no batch of 1000") as caught:
        train(tiny_config, RunOptions(work_dir=tiny_config.parent / "run", device="cpu", overrides=more))
    assert "drop_last=False" in caught.value.fix


def test_flexible_runner_is_picked_from_the_config_alone(tiny_config):
    config = tiny_config.with_name("flexible.py")
    config.write_text(tiny_config.read_text() + "strategy = dict(type='SingleDeviceStrategy')\n")
    result = train(config, RunOptions(tiny_config.parent / "flex", device="cpu"))
    assert result.metrics["accuracy"] > 0.5


def test_an_unknown_type_names_the_nearest(tiny_config):
    config = tiny_config.with_name("typo.py")
    config.write_text(tiny_config.read_text().replace("TinyNet", "TinyNett"))
    with pytest.raises(ConfigError) as caught:
        train(config, RunOptions(tiny_config.parent / "x", device="cpu"))
    assert "rsfoundation.TinyNet" in caught.value.fix and "model.type" in caught.value.where


def test_an_unknown_task_names_the_known(tiny_config):
    config = tiny_config.with_name("task.py")
    config.write_text(tiny_config.read_text().replace("rsfoundation.TinyTask", "rsfoundation.TinyTsk"))
    with pytest.raises(ConfigError, match="TinyTask"):
        train(config, RunOptions(tiny_config.parent / "x", device="cpu"))


def test_a_missing_checkpoint_is_said_before_anything_is_built(tiny_config):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        train(tiny_config, RunOptions(device="cpu", resume="nowhere.pth"))
    with pytest.raises(CheckpointError, match="rsf train"):
        run_test(tiny_config, None, RunOptions(work_dir=tiny_config.parent / "empty", device="cpu"))
