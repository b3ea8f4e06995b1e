"""A run with a teacher: what is saved, resumed, tested, refused; two ranks learn what one learns."""

import copy
import json
import shutil

import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from taught_task import TaughtNet, student_config, trained_teacher

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.task_distillation import TaskDistiller, with_distillation
from rsfoundation.engine.train import train
from rsfoundation.io.checkpoints import read_checkpoint

ADAPTER = "distiller.losses.0.adapters.0.weight"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return trained_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def taught(teacher, tmp_path_factory):
    """The run folder of a student, whose averages are kept as well."""
    folder = tmp_path_factory.mktemp("student")
    config = student_config(folder, teacher, "custom_hooks = [dict(type='EMAHook', momentum=0.3)]\n")
    return train(config, RunOptions(folder / "run", device="cpu", seed=3)).work_dir


def run(config, name, resume=None, *overrides):
    options = RunOptions(config.parent / name, resume, device="cpu", seed=3, overrides=overrides)
    return train(config, options).work_dir


def built(teacher, **options):
    losses = [dict(type="FeatureImitation", module="body", channels=(4, 8))]
    return with_distillation(
        **{
            "model": dict(type="rsfoundation.TaughtNet"),
            "teacher_checkpoint": str(teacher),
            "losses": losses,
            **options,
        }
    )


def test_a_checkpoint_holds_the_plain_student(taught):
    content = read_checkpoint(taught / "epoch_2.pth")
    TaughtNet().load_state_dict(content["state_dict"])  # strict
    assert set(content["distiller"]["weights"]) == {ADAPTER}
    assert len(content["optimizer"]["state"]) == 4 + 1  # the student's and the convolution's, no teacher's


def test_a_resumed_run_equals_one_that_was_not_stopped(taught, tmp_path):
    again = tmp_path / "run"
    again.mkdir()
    for name in ("epoch_1.pth", "config.py"):
        shutil.copy(taught / name, again / name)
    train(taught / "config.py", RunOptions(again, "auto", device="cpu", seed=3))
    first, second = (read_checkpoint(folder / "epoch_2.pth") for folder in (taught, again))
    pairs = [(first[key], second[key]) for key in ("state_dict", "ema_state_dict")]
    pairs.append((first["distiller"]["weights"], second["distiller"]["weights"]))
    for wanted, found in pairs:
        assert wanted.keys() == found.keys()
        assert all(torch.equal(value, found[key]) for key, value in wanted.items())


def test_the_student_is_tested_and_predicts_without_its_teacher(teacher, taught, tmp_path):
    gone = tmp_path / "teacher"
    text = (taught / "config.py").read_text().replace(str(teacher), str(gone))
    assert str(gone) in text
    config = tmp_path / "config.py"
    config.write_text(text)
    tested = run_test(config, taught / "epoch_2.pth", RunOptions(tmp_path / "t", device="cpu"), pictures=0)
    assert tested.metrics["accuracy"] > 0.6
    with pytest.raises(CheckpointError, match="the teacher has no checkpoint"):
        train(config, RunOptions(tmp_path / "again", device="cpu"))


def test_the_teacher_stays_as_it_was_and_moves_the_student(teacher, tmp_path):
    before = {name: file.read_bytes() for name, file in (("best", next(teacher.glob("best_*.pth"))),)}
    config = student_config(tmp_path, teacher)
    weights = [
        read_checkpoint(run(config, name, None, *more) / "epoch_2.pth")["state_dict"]
        for name, more in (("taught", ()), ("plain", ("distill=None",)))
    ]
    assert any((weights[0][key] - weights[1][key]).abs().max() > 1e-3 for key in weights[0])
    assert before["best"] == next(teacher.glob("best_*.pth")).read_bytes()


def test_distance_falls_while_the_student_learns(teacher):
    torch.manual_seed(0)
    network = built(teacher).train()
    weights = copy.deepcopy(network.distiller.teacher.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), 0.02)
    data = network.data_preprocessor(batch(), True)
    found = []
    for _ in range(30):
        losses = network(**data, mode="loss")
        assert set(losses) == {"loss_side", "loss_0_FeatureImitation"}
        found.append(float(losses["loss_0_FeatureImitation"]))
        optimizer.zero_grad()
        losses["loss_0_FeatureImitation"].backward()
        optimizer.step()
    assert found[-1] < 0.5 * found[0]
    assert not network.distiller.teacher.training
    assert all(
        torch.equal(value, weights[key]) for key, value in network.distiller.teacher.state_dict().items()
    )


def batch():
    from mmengine.structures import BaseDataElement

    images = torch.randint(
        0, 255, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    samples = [BaseDataElement(metainfo=dict(label=index % 2)) for index in range(4)]
    return dict(inputs=list(images), data_samples=samples)


def test_the_student_starts_from_the_weights_it_has_without_a_teacher(teacher):
    torch.manual_seed(0)
    plain = ROOT_MODELS.build(dict(type="rsfoundation.TaughtNet"))
    after = torch.rand(1)
    torch.manual_seed(0)
    network = built(teacher)
    assert torch.equal(after, torch.rand(1))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_copies_share_the_teacher(teacher):
    network = built(teacher)
    twin = copy.deepcopy(network)
    assert twin.distiller.teacher is network.distiller.teacher
    assert twin.distiller.losses[0] is not network.distiller.losses[0]


def test_another_teacher_cannot_continue_a_run(taught, tmp_path):
    other = trained_teacher(tmp_path / "other")
    content = torch.load(other / "epoch_2.pth", weights_only=False)
    content["state_dict"]["head.bias"] += 1
    for file in other.glob("*.pth"):
        file.unlink()
    torch.save(content, other / "epoch_2.pth")
    options = RunOptions(
        tmp_path / "run",
        str(taught / "epoch_1.pth"),
        device="cpu",
        overrides=(f"distill.teacher_checkpoint={other}",),
    )
    with pytest.raises(CheckpointError, match="the run had another teacher"):
        train(taught / "config.py", options)


def test_mixed_precision_trains_with_a_teacher(teacher, tmp_path):
    config = student_config(tmp_path, teacher)
    folder = train(config, RunOptions(tmp_path / "run", device="cpu", amp=True)).work_dir
    logged = [
        row["loss_0_FeatureImitation"] for row in json.loads((folder / "metrics.json").read_text())["train"]
    ]
    assert 0 < logged[-1] < logged[0]
    content = read_checkpoint(folder / "epoch_2.pth")
    for value in (*content["state_dict"].values(), *content["distiller"]["weights"].values()):
        assert value.dtype == torch.float32 and value.isfinite().all()


def test_adapters_learn_from_a_teacher_and_resume_exactly(teacher, tmp_path):
    config = student_config(tmp_path, teacher, "lora = dict(rank=2, scope='body', target=['0'])\n")
    whole = run(config, "whole")
    first, last = (read_checkpoint(whole / f"epoch_{number}.pth") for number in (1, 2))
    weights = first["state_dict"], last["state_dict"]
    assert torch.equal(*(one["body.0.base_layer.weight"] for one in weights))
    (moved,) = (name for name in weights[0] if "lora_B" in name)
    assert not torch.equal(*(one[moved] for one in weights))
    assert set(last["distiller"]["weights"]) == {ADAPTER}
    alone = read_checkpoint(run(config, "alone", None, "distill=None") / "epoch_2.pth")["state_dict"]
    assert (alone[moved] - weights[1][moved]).abs().max() > 1e-4  # the teacher moves the adapters
    again = tmp_path / "again"
    again.mkdir()
    for name in ("epoch_1.pth", "config.py"):
        shutil.copy(whole / name, again / name)
    train(whole / "config.py", RunOptions(again, "auto", device="cpu", seed=3))
    found = read_checkpoint(again / "epoch_2.pth")
    assert all(torch.equal(value, found["state_dict"][key]) for key, value in weights[1].items())
    tested = run_test(config, whole / "epoch_2.pth", RunOptions(tmp_path / "t", device="cpu"), pictures=0)
    assert tested.metrics["accuracy"] > 0.5


def test_other_classes_are_refused(teacher, tmp_path):
    config = student_config(tmp_path, teacher)
    config.write_text(
        config.read_text() + "train_dataloader['dataset']['metainfo'] = dict(classes=('left', 'right'))\n"
        "val_dataloader['dataset']['metainfo'] = dict(classes=('left', 'right'))\n"
    )
    with pytest.raises(ConfigError, match="the teacher has the classes right, left; the training data left"):
        run(config, "run")


@pytest.mark.parametrize(
    ("options", "text", "fix"),
    [
        (dict(losses=[]), "there are no losses", "ClassImitation"),
        (dict(losses=[dict(type="FeatureImitation", module="neck")]), "no part 'neck'", "body"),
        (dict(losses=[dict(type="ClassImitation", module="head")]), "no sigmoid scores", "dense head"),
        (dict(model=dict(type="rsfoundation.TinyNet")), "no method loss", "segmentors"),
        (
            dict(
                model=dict(
                    type="rsfoundation.TaughtNet", data_preprocessor=dict(type="mmengine.ImgDataPreprocessor")
                )
            ),
            "mean of the data preprocessors differ",
            "the teacher's",
        ),
    ],
)
def test_what_does_not_fit_is_refused(teacher, options, text, fix):
    with pytest.raises(ConfigError, match=text) as caught:
        built(teacher, **options)
    assert fix in caught.value.fix


def test_a_checkpoint_of_another_model_is_no_teacher(teacher, tmp_path):
    config = tmp_path / "config.py"
    config.write_text((teacher / "config.py").read_text().replace("width=8", "width=6"))
    with pytest.raises(CheckpointError, match="belongs to another model") as caught:
        built(teacher, teacher_config=str(config))
    assert "distill.teacher_config" in caught.value.fix


def test_other_channels_ask_for_an_adapter(teacher):
    network = built(teacher, losses=[dict(type="FeatureImitation", module="body")])
    with pytest.raises(ConfigError, match="has 4 channels, body of the teacher 8") as caught:
        network(**network.data_preprocessor(batch(), True), mode="loss")
    assert "channels=(student, teacher)" in caught.value.fix


def test_a_module_that_runs_twice_is_refused(teacher):
    network = built(teacher)
    plain = network.distiller

    def twice(inputs, data_samples):
        network.body(inputs)
        return TaughtNet.loss(network, inputs, data_samples)

    data = network.data_preprocessor(batch(), True)
    with pytest.raises(ConfigError, match="body is called 2 times"):
        TaskDistiller.total_loss(plain, twice, data["inputs"], data["data_samples"])


STRATEGIES = ("ddp", "fsdp", "deepspeed-zero2")


@pytest.fixture(scope="module")
def ranks(teacher, tmp_path_factory):
    """The folder in which two ranks trained with a teacher, and this process with the whole batch."""
    import os
    from pathlib import Path

    import worker
    from launch import finish, start

    folder = tmp_path_factory.mktemp("ranks")
    config = student_config(folder, teacher)
    started = start(folder, {name: dict(strategy=name, ema=True) for name in STRATEGIES}, config)
    here = Path.cwd()
    os.chdir(folder)
    try:
        worker.run("alone", dict(options=["train_dataloader.batch_size=8"], ema=True), config)
    finally:
        os.chdir(here)
    finish(started, folder)
    return folder


@pytest.mark.parametrize("name", STRATEGIES)
def test_two_ranks_learn_what_one_process_learns_from_the_whole_batch(ranks, name):
    losses = [json.loads((ranks / f"{one}.json").read_text()) for one in (name, "alone")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    found, wanted = (torch.load(ranks / f"{one}.pth") for one in (name, "alone"))
    assert ADAPTER in found and not any("teacher" in key for key in found)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)


def test_an_unknown_key_of_the_block_names_the_nearest(teacher, tmp_path):
    config = student_config(tmp_path, teacher, "distill['teacher_chekpoint'] = 'x'\n")
    with pytest.raises(ConfigError, match="takes no option 'teacher_chekpoint'") as caught:
        run(config, "run")
    assert "distill.teacher_chekpoint" in caught.value.where and "'teacher_checkpoint'" in caught.value.fix
