"""Files that lie in a wrong place, or belong into no archive: the fix is one that works."""

import zipfile

import pytest
from submission_files import GOOD, class_files, document, refused

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.submission.check import check_submission


def inside(folder, files):
    return {f"{folder}/{name}": text for name, text in files.items()}


def counts(path, **kwargs):
    return dict(check_submission(path, **kwargs).counts)


def test_a_folder_in_the_zip(make_zip):
    path = make_zip(inside("results", class_files()))
    error = refused(path)
    assert "15 files are in the folder 'results'" in error.what
    assert error.fix == "cd results && zip ../Task1.zip Task1_*.txt"
    assert counts(path) == {"file in a folder": 1}
    assert "cd 'my results' &&" in refused(make_zip(inside("my results", class_files()))).fix


def test_class_files_in_several_folders(make_zip):
    names = list(class_files())
    path = make_zip(dict.fromkeys([f"{'ab'[place % 2]}/{name}" for place, name in enumerate(names)], ""))
    error = refused(path)
    assert "15 files are in the folders 'a', 'b'" in error.what
    assert error.fix == "zip -j Task1.zip a/Task1_*.txt b/Task1_*.txt"
    assert counts(path) == {"file in a folder": 1}


def test_strangers_in_folders_leave_the_class_files_to_be_checked(make_zip):
    strangers = {"notes/readme.md": "", "notes/log.txt": "", "backup/Task1_ship.txt": GOOD}
    checked = check_submission(make_zip({**class_files(ship=GOOD + "x\n"), **strangers}))
    assert checked.counts == {"unexpected folder": 2, "wrong columns": 1}
    assert "2 files are in the folder 'notes'" in checked.problems[0].what
    assert checked.problems[0].fix == "delete them: zip -d Task1.zip 'notes/*'"


def test_what_macos_adds(make_zip):
    added = {f"__MACOSX/._{name}": b"\0\5\x16\xff" for name in class_files()}
    error = refused(make_zip({**class_files(ship=GOOD), **added}))
    assert "15 files are in '__MACOSX/', which macOS adds" in error.what
    assert error.fix == "delete them: zip -d Task1.zip '__MACOSX/*'"
    hidden = make_zip({**class_files(), ".DS_Store": b"\0", "notes/.DS_Store": b""})
    assert counts(hidden) == {"hidden file": 2}
    assert "zip -d Task1.zip .DS_Store" in refused(hidden).fix
    assert counts(make_zip({**inside("out", class_files()), "__MACOSX/out/._a": ""})) == {
        "file of macOS": 1,
        "file in a folder": 1,
    }
    xml = make_zip({"test/7.xml": document(), "__MACOSX/test/._7.xml": b"\xff"}, "test.zip")
    assert counts(xml, images={"7"}) == {"file of macOS": 1}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("../{}", "absolute, or has '.' or '..' in it"),
        ("a/../{}", "absolute, or has '.' or '..' in it"),
        ("/home/{}", "absolute, or has '.' or '..' in it"),
        ("C:/{}", "absolute, or has '.' or '..' in it"),
        ("./{}", "absolute, or has '.' or '..' in it"),
        ("out\\{}", "has a backslash"),
    ],
)
def test_names_that_point_out_of_the_archive(make_zip, name, what):
    files = class_files(ship=GOOD)
    error = refused(make_zip({**files, name.format("x.txt"): ""}))
    assert what in error.what and "further" not in error.what and "cd " not in error.fix
    everything = make_zip({name.format(file): text for file, text in files.items()})
    assert sum(counts(everything).values()) == 15, "none is reported as missing, too"
    xml = check_submission(make_zip({name.format("7.xml"): document()}, "test.zip"), {"7"})
    assert xml.kind == "FAIR1M" and what in xml.problems[0].what and len(xml.problems) == 1


def test_an_archive_in_the_archive(make_zip):
    error = refused(make_zip({"Task1.zip": b"PK"}))
    assert "archive in the archive" in error.what and "unpack it" in error.fix


def test_both_tasks_in_one_archive(make_zip):
    both = make_zip({**class_files(), **class_files("Task2")})
    assert counts(both) == {"unexpected file": 15}
    assert "each task has an archive of its own" in refused(both).fix
    most = check_submission(make_zip({**class_files("Task2"), "Task1_ship.txt": "", "notes.xml": ""}))
    assert most.kind == "DOTA Task2" and most.counts == {"unexpected file": 2}
    folders = make_zip({**inside("Task1", class_files()), **inside("Task2", class_files("Task2"))})
    assert "cd Task1 && zip ../Task1.zip Task1_*.txt" in refused(folders).fix


def test_archives_that_were_damaged_on_the_way(make_zip, tmp_path):
    path = make_zip({**class_files(), "Task1_é.txt": ""})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match="damaged"):
        check_submission(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("Task1_ship.txt", GOOD * 50)
    data = bytearray(path.read_bytes())
    start = data.index(b"Task1_ship.txt") + len("Task1_ship.txt") + 9  # behind the head of LZMA's own
    data[start : start + 16] = b"\xff" * 16
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        check_submission(path)
