"""Folders that are complete or absent."""

import json
import threading

import pytest

from rsfoundation.data.store import locked, publish, refuse_foreign, stage
from rsfoundation.errors import DataError
from rsfoundation.structures.manifest import MANIFEST, Manifest, read_manifest

OURS = Manifest("maker", {"seed": 1}, {"files": 1})


def make(folder, text="new", manifest=OURS):
    staging = stage(folder)
    (staging / "file").write_text(text)
    publish(staging, folder, manifest)


def test_a_published_folder_carries_its_manifest(tmp_path):
    folder = tmp_path / "deep" / "set"
    make(folder)
    assert read_manifest(folder) == OURS
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_a_newer_folder_of_the_same_maker_takes_the_place(tmp_path):
    make(tmp_path / "set", "old")
    make(tmp_path / "set", "new")
    assert (tmp_path / "set" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("leftover", [".set.partial", ".set.old"])
def test_leftovers_of_a_broken_run_go(tmp_path, leftover):
    (tmp_path / leftover / "images").mkdir(parents=True)
    make(tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["file", MANIFEST]


def test_foreign_folders_stay(tmp_path):
    make(tmp_path / "set", manifest=Manifest("another", {}, {}))
    with pytest.raises(DataError, match="was not made by maker"):
        make(tmp_path / "set")
    (tmp_path / "plain").write_text("a file")
    with pytest.raises(DataError, match="was not made by maker"):
        refuse_foreign(tmp_path / "plain", "maker")
    (tmp_path / "empty").mkdir()
    refuse_foreign(tmp_path / "empty", "maker")
    make(tmp_path / "empty")
    assert read_manifest(tmp_path / "empty") == OURS


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"maker": "maker"})])
def test_a_broken_manifest_is_none(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    assert read_manifest(tmp_path) is None


def test_one_at_a_time(tmp_path):
    order = []

    def work():
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
