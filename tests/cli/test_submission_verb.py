"""``rsf submission check``, by its older name too, and tasks that know none of a test's options."""

import zipfile

import pytest

from rsfoundation.cli import main
from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import RunRequest
from rsfoundation.datasets.oriented.classes import DOTA_V1
from rsfoundation.registry import TASKS

GOOD = "P0001 0.9 10 10 20 10 20 20 10 20\n"


def archive(tmp_path, ship):
    path = tmp_path / "Task1.zip"
    with zipfile.ZipFile(path, "w") as content:
        for name in DOTA_V1:
            content.writestr(f"Task1_{name}.txt", ship if name == "ship" else "")
    return path


def run(words, capsys, verb=("submission", "check")):
    with pytest.raises(SystemExit) as ended:
        main([*verb, *map(str, words)])
    said = capsys.readouterr()
    return ended.value.code, " ".join((said.out + said.err).split())


@pytest.mark.parametrize("verb", [("submission", "check"), ("info", "submission")])
def test_a_good_archive(tmp_path, capsys, verb):
    code, said = run([archive(tmp_path, GOOD)], capsys, verb)
    assert code == 0 and "accepted" in said and "DOTA Task1" in said


def test_a_bad_archive_is_refused_with_place_and_cure(tmp_path, capsys):
    code, said = run([archive(tmp_path, GOOD + GOOD + "x\n")], capsys)
    assert code == 2
    assert "line 1 already" in said and "Task1_ship.txt:2" in said and "fix:" in said
    assert "2 problems" in said and "1 x wrong columns" in said


def test_image_names_are_checked_against_a_folder(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "P0002.png").touch()
    code, said = run([archive(tmp_path, GOOD), "--images", tmp_path / "images"], capsys)
    assert code == 2 and "unknown image 'P0001'" in said


def test_classes_of_one_s_own(tmp_path, capsys):
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("Task1_car.txt", GOOD)
    assert run([path, "--class", "car"], capsys)[0] == 0
    assert run([path], capsys)[0] == 2


@pytest.mark.parametrize(
    ("task", "asked"),
    [("ChangeDetection", dict(format_only=True)), ("InstanceSegmentation", dict(tta=True))],
)
def test_what_a_task_cannot_do_is_refused_before_anything_runs(task, asked):
    built = TASKS.build(dict(type=task))
    with pytest.raises(ConfigError, match="has no --"):
        built.prepare_config({}, RunRequest("test", **asked))
    built.prepare_config({}, RunRequest("test"))
