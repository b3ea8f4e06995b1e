"""The Python API: lazy, and equal to what the console does."""

import subprocess
import sys

import numpy as np
import pytest
from mmengine.config import Config
from tiny_task import write_config

import rsfoundation
from rsfoundation.core.errors import ConfigError
from rsfoundation.io.images import write_rgb


def test_importing_the_names_of_backbones_loads_no_toolbox():
    code = (
        "import sys, rsfoundation; assert 'torch' not in sys.modules;"
        "from rsfoundation import create_model, list_models; list_models();"
        "assert not {'mmdet', 'mmseg', 'mmrotate'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_unknown_names_are_no_attributes():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = rsfoundation.trian
    assert set(rsfoundation.__all__) <= set(dir(rsfoundation))


def test_train_test_load_predict(tmp_path):
    config = write_config(tmp_path, "predict = dict(window=8, overlap=0)\n")
    trained = rsfoundation.train(
        str(config), work_dir=str(tmp_path / "run"), device="cpu", overrides=["train_cfg.max_epochs=1"]
    )
    assert Config.fromfile(trained.work_dir / "config.py").train_cfg.max_epochs == 1
    tested = rsfoundation.test(config, trained.work_dir, pictures=0, work_dir=tmp_path / "run", device="cpu")
    assert set(tested.metrics) == {"accuracy"}
    write_rgb(tmp_path / "scene.png", np.zeros((16, 24, 3), np.uint8))
    model = rsfoundation.load_model(trained.work_dir, device="cpu")
    (done,) = rsfoundation.predict(model, tmp_path / "scene.png", tmp_path / "out", picture=False)
    assert done.windows == 6 and done.files == (tmp_path / "out" / "scene.json",)
    (again,) = rsfoundation.predict(trained.work_dir, [tmp_path / "scene.png"], tmp_path / "two", overlap=4)
    assert again.windows == 15


@pytest.mark.parametrize("call", ["train", "test"])
def test_a_misspelt_option_is_named(call, tmp_path):
    with pytest.raises(ConfigError, match=f"{call} has no option 'work_dri'") as raised:
        getattr(rsfoundation, call)(write_config(tmp_path), work_dri="x")
    assert "work_dir" in raised.value.fix


def test_a_misspelt_option_of_predict_is_named_before_the_model_is_loaded():
    with pytest.raises(ConfigError, match="predict has no option 'windows'") as raised:
        rsfoundation.predict("no/such/run", "scene.png", windows=512)
    assert "window" in raised.value.fix
