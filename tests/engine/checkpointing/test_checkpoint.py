"""Checkpoints are read weights-only, and broken ones say so."""

import os

import pytest
import torch
from mmengine.runner import CheckpointLoader

from rsfoundation.core.errors import CheckpointError
from rsfoundation.engine.checkpointing.find import find_checkpoint
from rsfoundation.io.checkpoints import read_checkpoint


class _Hostile:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def test_a_hostile_file_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "meta": _Hostile()}, "hostile.pth")
    with pytest.raises(CheckpointError, match="more than weights"):
        read_checkpoint("hostile.pth")
    assert not (tmp_path / "owned").exists()


def test_mmengine_has_no_unsafe_retry_any_more(tmp_path, monkeypatch):
    from mmengine.runner import load_checkpoint

    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "meta": _Hostile()}, "hostile.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(torch.nn.Linear(1, 1), "hostile.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 100])
def test_a_broken_file_is_named(tmp_path, content):
    file = tmp_path / "broken.pth"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        read_checkpoint(file)


def test_a_cut_file_is_named(tmp_path):
    file = tmp_path / "cut.pth"
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, file)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="cut short"):
        read_checkpoint(file)


def test_a_run_folder_means_its_best_then_its_last(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        find_checkpoint(tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "epoch_3.pth")
    (tmp_path / "last_checkpoint").write_text("/moved/since/epoch_3.pth")
    assert find_checkpoint(tmp_path).name == "epoch_3.pth"
    (tmp_path / "best_mAP_epoch_2.pth").touch()
    assert find_checkpoint(tmp_path).name == "best_mAP_epoch_2.pth"


def test_the_log_names_the_place_that_weights_come_from(tmp_path, monkeypatch):
    """mmengine takes it from the names of the loaders."""
    said = []
    monkeypatch.setattr("mmengine.runner.checkpoint.print_log", lambda text, **_: said.append(text))
    torch.save({"state_dict": {}}, tmp_path / "a.pth")
    CheckpointLoader.load_checkpoint(str(tmp_path / "a.pth"))
    assert said == [f"Loads checkpoint by local backend from path: {tmp_path / 'a.pth'}"]
    with pytest.raises(CheckpointError):
        CheckpointLoader.load_checkpoint("torchvision://resnet0")
    assert said[1] == "Loads checkpoint by model_zoo backend from path: torchvision://resnet0"
