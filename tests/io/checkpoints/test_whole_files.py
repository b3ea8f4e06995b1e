"""Files and folders appear whole; what was there stays until then."""

import os
import time

import pytest
import torch

from rsfoundation.engine.checkpointing.find import newest_complete
from rsfoundation.io.checkpoints import MARKER, is_complete, published, write_text


def checkpoint(path, age=0):
    torch.save({"state_dict": {"w": torch.zeros(10)}}, path)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_a_failed_write_leaves_what_was_there(tmp_path):
    target = tmp_path / "text"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), published(target) as place:
        place.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["text"]


def test_a_folder_is_marked_and_replaces_another(tmp_path):
    target = tmp_path / "epoch_1.pth"
    for content in ("one", "three"):
        with published(target) as place:
            (place / "inner").mkdir(parents=True)
            (place / "inner" / "rank0.pth").write_text(content)
            assert not is_complete(place)
        assert is_complete(target) and (target / "inner" / "rank0.pth").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pth"]
    (target / "inner" / "rank0.pth").write_text("cut")
    assert not is_complete(target)
    (target / MARKER).unlink()
    assert not is_complete(target)


def test_the_newest_whole_one_is_found(tmp_path):
    assert newest_complete(tmp_path) is None
    first = checkpoint(tmp_path / "epoch_1.pth", age=30)
    second = checkpoint(tmp_path / "epoch_2.pth", age=20)
    checkpoint(tmp_path / "best_mAP_epoch_2.pth")
    assert newest_complete(tmp_path) == second, "without a marker"
    write_text(tmp_path / "last_checkpoint", "/moved/since/epoch_2.pth")
    third = checkpoint(tmp_path / "epoch_3.pth", age=10)
    assert newest_complete(tmp_path) == third, "killed before the marker was written"
    third.write_bytes(third.read_bytes()[:-100])
    assert newest_complete(tmp_path) == second
    second.unlink()
    assert newest_complete(tmp_path) == first


def test_a_run_begun_again_in_its_folder_does_not_go_on_from_the_earlier_one(tmp_path):
    checkpoint(tmp_path / "epoch_12.pth", age=100)
    new = checkpoint(tmp_path / "epoch_3.pth")
    write_text(tmp_path / "last_checkpoint", str(new))
    assert newest_complete(tmp_path) == new


def test_a_copied_run_goes_on_from_what_its_marker_names(tmp_path):
    checkpoint(tmp_path / "epoch_3.pth")
    last = checkpoint(tmp_path / "epoch_4.pth", age=5)  # copying gave it an earlier time
    write_text(tmp_path / "last_checkpoint", "epoch_4.pth")
    assert newest_complete(tmp_path) == last
