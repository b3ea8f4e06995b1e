"""Every kind of prompt model goes the whole way on toy scenes: train, test, predict."""

import json

import pytest
from prompt_models import anchor, query, sam_det
from prompt_runs import rsf, toy_scenes, write_config

MODELS = {
    "RSPrompterAnchor": anchor,
    "RSPrompterQuery": query,
    "SAMSegMask2Former": lambda: query("sam_seg_mask2former"),
    "SAMDet": sam_det,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_train_test_and_predict(tmp_path, name):
    toy_scenes(tmp_path)
    model = MODELS[name]()
    assert model.type.endswith(name)
    write_config(tmp_path, model)
    run = tmp_path / "run"
    rsf("train", tmp_path / "config.py", "--work-dir", run, "--device", "cpu")
    losses = [row["loss"] for row in json.loads((run / "metrics.json").read_text())["train"]]
    assert losses and all(value > 0 for value in losses)
    rsf("test", tmp_path / "config.py", "--work-dir", run, "--device", "cpu")
    metrics = json.loads((run / "test.json").read_text())["metrics"]
    assert {"bbox_mAP50", "segm_mAP50"} <= metrics.keys()
    scene = next((tmp_path / "toy/instance/large").glob("*.png"))
    rsf("predict", scene, "--model", run, "-o", tmp_path / "found", "--device", "cpu", "--score", "0")
    (found,) = (tmp_path / "found").glob(f"{scene.stem}*.json")
    assert json.loads(found.read_text())
