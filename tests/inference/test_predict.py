"""Prediction of whole scenes on the tiny task: windows, files, bad inputs."""

import json

import numpy as np
import pytest

from rsfoundation.core.errors import CheckpointError, ConfigError, DataError
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, list_scenes, open_scene, predict
from rsfoundation.io.images import write_rgb


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from tiny_task import write_config

    config = write_config(tmp_path_factory.mktemp("tiny"), "predict = dict(window=8, overlap=0)\n")
    return train(config, RunOptions(config.parent / "run", device="cpu")).work_dir


@pytest.fixture(scope="module")
def model(run):
    return WindowModel(run, device="cpu")


def test_every_window_is_predicted_and_files_appear(model, tmp_path):
    scene = np.full((16, 24, 3), 40, np.uint8)
    scene[:, [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]] = 200  # each 8 px window: left half bright
    write_rgb(tmp_path / "scene.png", scene)
    (done,) = predict(model, [tmp_path / "scene.png"], tmp_path / "out")
    assert (done.name, done.windows, done.summary) == ("scene", 6, {"windows": 6, "left": 6})
    assert sorted(file.name for file in done.files) == ["scene.json", "scene_overlay.png"]
    assert json.loads((tmp_path / "out" / "scene.json").read_text()) == done.summary
    assert all(file.is_file() for file in done.files)


def test_options_come_before_the_config(model, tmp_path):
    write_rgb(tmp_path / "a.png", np.zeros((8, 16, 3), np.uint8))
    (done,) = predict(model, [tmp_path], tmp_path / "out", PredictOptions(window=8, overlap=4, picture=False))
    assert done.windows == 3 and len(done.files) == 1
    with pytest.raises(ConfigError, match="json"):
        predict(model, [tmp_path], tmp_path / "out", PredictOptions(formats=("gpkg",)))


def test_the_console_takes_windows_from_the_config(run, tmp_path, monkeypatch):
    from rsfoundation.cli import main

    monkeypatch.chdir(tmp_path)
    write_rgb(tmp_path / "a.png", np.zeros((16, 24, 3), np.uint8))
    with pytest.raises(SystemExit) as stop:
        main(["predict", "a.png", "--model", str(run), "--device", "cpu"])
    assert stop.value.code == 0
    assert json.loads((tmp_path / "predictions" / "a.json").read_text())["windows"] == 6


def test_a_checkpoint_of_another_model_is_refused(run):
    with pytest.raises(CheckpointError, match="another model"):
        WindowModel(run, device="cpu", overrides=["model.width=8"])


def test_a_checkpoint_without_a_config_beside_it_asks_for_one(run, tmp_path):
    lone = tmp_path / "lone.pth"
    lone.write_bytes((run / "epoch_4.pth").read_bytes())
    with pytest.raises(ConfigError, match="--config"):
        WindowModel(lone, device="cpu")
    assert WindowModel(lone, config=run / "config.py", device="cpu").classes.names == ("right", "left")


def test_inputs_are_checked(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list_scenes([tmp_path / "none.png"], 1)
    with pytest.raises(DataError, match="no image"):
        list_scenes([tmp_path], 1)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match="no readable image"):
        open_scene((tmp_path / "broken.png",))


def test_pairs_of_files_and_of_folders(tmp_path):
    for folder in ("A", "B"):
        for name in ("1.png", "2.png"):
            write_rgb(tmp_path / folder / name, np.zeros((4, 4, 3), np.uint8))
    a, b = tmp_path / "A", tmp_path / "B"
    assert list_scenes([a, b], 2) == [(a / "1.png", b / "1.png"), (a / "2.png", b / "2.png")]
    assert list_scenes([a / "1.png", b / "1.png"], 2) == [(a / "1.png", b / "1.png")]
    with pytest.raises(DataError, match="2 images per scene"):
        list_scenes([a / "1.png"], 2)
    (b / "2.png").unlink()
    with pytest.raises(DataError, match="no partner"):
        list_scenes([a, b], 2)
    write_rgb(b / "3.png", np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(DataError, match="differ in size"):
        open_scene((a / "1.png", b / "3.png"))


def test_a_task_without_several_forms_says_so(run):
    with pytest.raises(ConfigError, match="--tta"):
        WindowModel(run, device="cpu", tta=True)
