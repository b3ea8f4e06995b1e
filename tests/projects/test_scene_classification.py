"""A data set of one's own runs through recognition without an edit in the package."""

import csv
import json
import sys
from pathlib import Path

import pytest
from locations import ROOT
from recognition_run import COLOURS, coloured

from rsfoundation.core.errors import DataError
from rsfoundation.engine.config import load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import predict
from rsfoundation.io.images import write_rgb
from rsfoundation.registry import DATASETS

PROJECT = ROOT / "projects" / "scene_classification"


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """Two classes that differ in colour, in a table."""
    monkeypatch.syspath_prepend(str(PROJECT))
    monkeypatch.delitem(sys.modules, "scene_table", raising=False)
    DATASETS.module_dict.pop("SceneTable", None)
    rows = []
    for part in ("train", "val"):
        for name in COLOURS:
            for index in range(8):
                rows.append((f"tiles/{part}_{name}_{index}.png", name, part))
                write_rgb(tmp_path / "scenes" / rows[-1][0], coloured(name, seed=index))
    write_table(tmp_path / "scenes", rows)
    return tmp_path / "scenes"


def write_table(folder, rows):
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "land_use", "part"), *rows])


def test_the_project_trains_tests_and_predicts(scenes, tmp_path):
    changes = [f"{split}_dataloader.dataset.data_root={scenes}" for split in ("train", "val", "test")]
    changes += [f"{split}_dataloader.dataset.pipeline.1.size=32" for split in ("train", "val", "test")]
    changes += ["train_dataloader.batch_size=8", "train_cfg.max_epochs=4", "train_cfg.val_interval=4"]
    config = PROJECT / "configs" / "lsknet_t_table.py"
    options = RunOptions(tmp_path / "run", device="cpu", seed=0)
    train(load_config(config, changes), options)
    tested = run_test(load_config(config, changes), None, options, pictures=2)
    assert "top1" in tested.metrics and tested.task == "recognition"
    assert len(list(Path(tested.pictures).glob("*.png"))) == 2
    image = scenes / "tiles" / "val_field_0.png"
    (done,) = predict(WindowModel(tmp_path / "run", device="cpu"), [image], tmp_path / "out")
    content = json.loads((tmp_path / "out" / "val_field_0.json").read_text())
    assert content["classes"] == ["field", "water"] and done.summary["class"] in ("field", "water")


def test_a_row_with_a_missing_image_is_named_with_its_line(scenes):
    import scene_table

    rows = [("tiles/train_field_0.png", "field", "train"), ("tiles/none.png", "water", "train")]
    write_table(scenes, rows)
    with pytest.raises(DataError, match=r"tiles/none.png") as caught:
        scene_table.SceneTable(str(scenes), "table.csv", "train").full_init()
    assert caught.value.where.endswith("table.csv:3")
