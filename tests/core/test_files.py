"""Folders that are complete or absent."""

import json
import threading

import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import (
    MANIFEST,
    Manifest,
    locked,
    publish,
    read_manifest,
    refuse_foreign,
    refuse_own_sources,
    replacing,
    staging_folder,
    write_json,
)

OURS = Manifest("maker", {"seed": 1}, {"files": 1})


def make(folder, text="new", manifest=OURS):
    with staging_folder(folder) as staging:
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


def test_an_older_folder_that_a_killed_run_had_moved_away_comes_back(tmp_path):
    make(tmp_path / "set", "old")
    (tmp_path / "set").rename(tmp_path / ".set.old")
    with pytest.raises(DataError), staging_folder(tmp_path / "set"):
        raise DataError("full")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (tmp_path / "set/file").read_text() == "old"


@pytest.mark.parametrize("error", [DataError("full"), KeyboardInterrupt])
def test_a_run_that_stops_leaves_nothing_and_what_was_there_stays(tmp_path, error):
    make(tmp_path / "set", "old")
    with pytest.raises((DataError, KeyboardInterrupt)), staging_folder(tmp_path / "set") as staging:
        (staging / "images").mkdir()
        (staging / "images/file").write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (tmp_path / "set/file").read_text() == "old"


def test_a_folder_that_is_not_published_goes(tmp_path):
    with staging_folder(tmp_path / "set") as staging:
        (staging / "file").write_text("new")
    assert not list(tmp_path.iterdir())


def test_files_that_a_folder_is_made_from_are_not_in_it(tmp_path):
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    for folder in ("set", "link", "set/images", "."):
        with pytest.raises(DataError, match="holds files that it is made from"):
            refuse_own_sources(tmp_path / folder, [tmp_path / "set/images/a.png"])
    for folder in ("set/images/deeper", "se", "another"):
        refuse_own_sources(tmp_path / folder, [tmp_path / "set/images/a.png"])


@pytest.mark.parametrize("root", ["file", "file/deeper"])
def test_a_place_that_takes_no_folder_is_named(tmp_path, root):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="nothing can be written") as caught, locked(tmp_path / root):
        pass
    assert caught.value.where == str(tmp_path / root) and caught.value.fix


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


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "scores.txt"
    with replacing(path) as temporary:
        temporary.write_text("old")
        assert temporary.suffix == ".txt" and not path.exists()
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_json_has_plain_numbers_only(tmp_path):
    write_json(tmp_path / "a.json", {"map": np.float32(0.5), 3: [np.int64(2), float("nan")], "é": (1,)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"map": 0.5, "3": [2, None], "é": [1]}
