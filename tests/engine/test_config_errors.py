"""Options that a part does not take are named with their place."""

import pytest
from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import explained_option_errors
from rsfoundation.registry import DATASETS, MODELS


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / "run.py").write_text(
        "model = dict(type='rsfoundation.LSKNet', archh='t')\n"
        "data = dict(type='rsfoundation.DOTADataset', data_root='x', presett='ss')\n"
        "train_dataloader = dict(batchsize=2, dataset=data)\n"
    )
    return Config.fromfile(tmp_path / "run.py")


def test_a_misspelt_option_of_a_data_set(cfg):
    with (
        pytest.raises(ConfigError, match=r"rsfoundation\.DOTADataset takes no option 'presett'") as caught,
        explained_option_errors(cfg),
    ):
        DATASETS.build(cfg.train_dataloader.dataset)
    assert caught.value.where.endswith(("run.py: data.presett", "run.py: train_dataloader.dataset.presett"))
    assert "'preset'" in caught.value.fix


def test_a_misspelt_option_of_a_model_and_of_a_loader(cfg):
    with pytest.raises(ConfigError, match="'archh'") as caught, explained_option_errors(cfg):
        MODELS.build(cfg.model)
    assert "'arch'" in caught.value.fix
    with (
        pytest.raises(ConfigError, match="DataLoader takes no option 'batchsize'") as caught,
        explained_option_errors(cfg),
    ):
        DataLoader([1], batchsize=2)
    assert "'batch_size'" in caught.value.fix


def test_an_option_that_is_missing(cfg):
    with pytest.raises(ConfigError, match="needs 'arch'"), explained_option_errors(cfg):
        MODELS.build(dict(type="rsfoundation.LSKNet"))


def test_other_errors_pass_unchanged(cfg):
    for fault in (lambda: nn.Linear(2, 2, biass=True), lambda: 1 + "a"):
        with pytest.raises(TypeError), explained_option_errors(cfg):
            fault()
