"""No crafted checkpoint runs code; each is refused with the file's name and a fix."""

import os

import pytest
import torch
from hostile_files import CORPUS, Calls
from mmengine.logging import HistoryBuffer

from rsfoundation.core.errors import CheckpointError
from rsfoundation.io.checkpoints import read_checkpoint, trusting


@pytest.mark.parametrize("name", CORPUS)
def test_it_is_refused_by_name_and_does_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suffix, make = CORPUS[name]
    file = tmp_path / f"hostile{suffix}"
    make(file)
    HistoryBuffer()  # registers the statistics
    before = dict(HistoryBuffer._statistics_methods)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(file)
    assert file.name in str(caught.value)
    assert not list(tmp_path.rglob("owned")) and not (tmp_path.parent / "owned").exists()
    assert dict(HistoryBuffer._statistics_methods) == before


def test_trust_is_asked_for_warns_and_ends(tmp_path, monkeypatch, capfd):
    from mmengine.logging import MMLogger

    MMLogger.get_instance("trust", logger_name="trust")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.pth"
    torch.save({"state_dict": {}, "meta": Calls(os.mkdir, "owned")}, file)
    with pytest.raises(CheckpointError, match="--trust-checkpoint"):
        read_checkpoint(file)
    with trusting():
        assert read_checkpoint(file)["state_dict"] == {}
    assert (tmp_path / "owned").is_dir()
    assert "mine.pth" in "".join(capfd.readouterr())
    with pytest.raises(CheckpointError):
        read_checkpoint(file)
