"""Every archive that a server refuses is refused here first, with file, line and fix."""

import zipfile

import pytest
from submission_files import GOOD, OBJECT, class_files, document, refused

from rsfoundation.cli import main
from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES
from rsfoundation.evaluation.submission.check import check_submission

GOOD2 = "P0001 0.9 10 10 20 20\n"
IMAGES = {"P0001", "P0002"}


@pytest.mark.parametrize("version", ["1.0", "1.5", "2.0"])
def test_all_versions_are_told_by_their_files(make_zip, version):
    files = {f"Task1_{name}.txt": "" for name in DOTA_CLASSES[version]}
    check_submission(make_zip(files)).raise_problem()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("P0001 0.9 10 10 20 10 20 20 10\n", "9 columns"),
        ("P0001 0.9 10 10 20 10 20 20 10 20 1\n", "11 columns"),
        ("\n", "0 columns"),
        ("P0001 1.01 10 10 20 10 20 20 10 20\n", "outside 0..1"),
        ("P0001 -0.1 10 10 20 10 20 20 10 20\n", "outside 0..1"),
        ("P0001 nan 10 10 20 10 20 20 10 20\n", "outside 0..1"),
        ("P0001 high 10 10 20 10 20 20 10 20\n", "no number"),
        ("P0001.png 0.9 10 10 20 10 20 20 10 20\n", "did you mean 'P0001'"),
        ("P9 0.9 10 10 20 10 20 20 10 20\n", "unknown image 'P9'"),
        ("P0001 0.9 10 10 20 10 30 10 10 10\n", "no area"),
        ("P0001 0.9 10 10 20 20 20 10 10 20\n", "no area"),
        ("P0001 0.9 10 10 30 20 30 10 10 18\n", "no area"),
        ("P0001 0.9 inf 10 20 10 20 20 10 20\n", "no finite number"),
        ("P0001 0.9 1_0 10 20 10 20 20 10 20\n", "no finite number"),
        ("P0001 0.9_0 10 10 20 10 20 20 10 20\n", "no number"),
        ("P0001 \u0661 10 10 20 10 20 20 10 20\n", "no number"),
        ("P0001 0.9 1e300 10 20 10 20 20 10 20\n", "the coordinate 1e+300 is beyond any image"),
        ("P0001 0.9 10 10 20 10 20 20 10 -2000000\n", "the coordinate -2e+06 is beyond any image"),
        ("P0001 0.9 10 10 20 10 20 20 10 20" + " " * 1000 + "\n", "more than 1000 characters"),
        ("images/P0001 0.9 10 10 20 10 20 20 10 20\n", "no image is named 'images/P0001'"),
        ("P0001\0 0.9 10 10 20 10 20 20 10 20\n", "no image is named"),
        (GOOD.replace("10 ", "10.00 "), "line 1 already"),
        (GOOD.replace("0.9", "0.8"), "line 1 already"),
    ],
)
def test_bad_lines(make_zip, line, what):
    error = refused(make_zip(class_files(ship=GOOD + line)), images=IMAGES)
    assert what in error.what and error.where.endswith("Task1.zip/Task1_ship.txt:2")


def test_columns_between_tabs_are_columns(make_zip):
    tabbed = GOOD.replace(" ", "\t")
    assert check_submission(make_zip(class_files(ship=tabbed)), IMAGES).detections == 1
    assert "line 1 already" in refused(make_zip(class_files(ship=tabbed * 2)), images=IMAGES).what


def test_a_concave_box_encloses_an_area(make_zip):
    files = class_files(ship="P0001 0.9 0 0 10 10 20 0 10 20\n")
    check_submission(make_zip(files), IMAGES).raise_problem()


@pytest.mark.parametrize(
    ("place", "byte", "what"),
    [(6, 1, "cannot be read"), (8, 9, "cannot be read"), (None, 255, "damaged")],
    ids=["encrypted", "another method", "garbled"],
)
def test_archives_that_python_cannot_unpack(tmp_path, place, byte, what):
    path = tmp_path / "Task1.zip"
    lines = "".join(f"P{n} 0.9 10 10 20 10 20 20 10 {n}\n" for n in range(20, 400))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in class_files(ship=lines).items():
            archive.writestr(name, text)
    data = bytearray(path.read_bytes())
    if place is None:
        start = data.index(b"Task1_ship.txt") + len("Task1_ship.txt")
        data[start : start + 40] = bytes([byte]) * 40
    else:  # in the head of each file, and in the directory, where the fields stand two bytes later
        for mark, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            at = data.find(mark)
            while at >= 0:
                data[at + place + shift] = byte
                at = data.find(mark, at + 4)
    path.write_bytes(data)
    with pytest.raises(DataError, match=what) as caught:
        check_submission(path)
    assert "zip it again" in caught.value.fix


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_stands_twice(make_zip):
    path = make_zip(class_files(ship=GOOD))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Task1_ship.txt", GOOD)
    with pytest.raises(DataError, match="is in the archive twice: 'Task1_ship"):
        check_submission(path)


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(make_zip, monkeypatch):
    path = make_zip(class_files(ship=GOOD * 50))
    monkeypatch.setattr("rsfoundation.evaluation.submission.archive._MAX_UNPACKED", 1000)
    with pytest.raises(DataError, match="unpacks to"):
        check_submission(path)


def test_the_same_box_in_two_classes_or_images_is_no_repetition(make_zip):
    files = class_files(ship=GOOD + GOOD.replace("P0001", "P0002"), plane=GOOD)
    checked = check_submission(make_zip(files), IMAGES)
    assert not checked.problems and (checked.images, checked.detections) == (2, 3)


def test_task2(make_zip):
    files = class_files("Task2")
    check_submission(make_zip({**files, "Task2_ship.txt": GOOD2})).raise_problem()
    assert "these look like oriented boxes" in refused(make_zip({**files, "Task2_ship.txt": GOOD})).what
    assert "xmin < xmax" in refused(make_zip({**files, "Task2_ship.txt": "P0001 0.9 20 10 10 20\n"})).what


def test_class_files(make_zip):
    files = class_files(ship=GOOD)
    missing = {name: text for name, text in files.items() if "harbor" not in name}
    assert "'Task1_harbor.txt' is missing" in refused(make_zip(missing)).what
    wrong = {**missing, "Task1_harbour.txt": ""}
    error = refused(make_zip(wrong))
    assert "did you mean 'Task1_harbor.txt'" in error.what and "1 x missing file" in error.what
    assert "unexpected file" in refused(make_zip({**files, "readme.md": ""})).what
    assert "unexpected file" in refused(make_zip({**files, "Task2_ship.txt": ""})).what
    check_submission(make_zip({"Task1_car.txt": GOOD}), classes=("car",)).raise_problem()


def test_a_folder_in_the_zip(make_zip):
    error = refused(make_zip({f"results/{name}": text for name, text in class_files().items()}))
    assert "15 files are in the folder 'results'" in error.what and "cd results && zip" in error.fix


def test_no_zip_at_all(tmp_path, make_zip):
    path = tmp_path / "Task1.zip"
    path.write_bytes(b"Rar!\x1a\x07")
    with pytest.raises(DataError, match="no zip archive") as caught:
        check_submission(path)
    assert "zip -j" in caught.value.fix
    with pytest.raises(DataError, match="does not exist"):
        check_submission(tmp_path / "nothing.zip")
    whole = make_zip(class_files(ship=GOOD * 50))
    whole.write_bytes(whole.read_bytes().replace(b"P0001 0.9 10", b"P0001 0.9 11"))
    with pytest.raises(DataError, match="damaged"):
        check_submission(whole)
    with pytest.raises(DataError, match="holds no file"):
        check_submission(make_zip({"folder/": ""}))


@pytest.mark.parametrize("before", [b"", GOOD.encode() * 2000], ids=["at the start", "far below"])
def test_bytes_that_are_no_text(make_zip, before):
    with pytest.raises(DataError, match="UTF-8") as caught:
        check_submission(make_zip({**class_files(), "Task1_ship.txt": before + b"\xff\xfe\x00"}))
    assert caught.value.where.endswith("Task1.zip/Task1_ship.txt")


def test_texts_of_windows_are_read(make_zip):
    text = "\ufeff" + (GOOD + GOOD.replace("10", "11")).replace("\n", "\r\n")
    checked = check_submission(make_zip(class_files(ship=text)), IMAGES)
    assert not checked.problems and checked.detections == 2


def test_a_long_line_is_told_once_and_the_next_one_read(make_zip):
    longest = GOOD.strip().ljust(1000) + "\n"
    checked = check_submission(make_zip(class_files(ship=longest + "x" * 5000 + "\nx\n")))
    assert checked.detections == 3 and checked.counts == {"long line": 1, "wrong columns": 1}


def test_boxes_that_differ_by_a_pixel_are_no_repetition(make_zip):
    lines = "".join(f"P0001 0.9 {x} -3 20 10 20 20 10 20\n" for x in (-1, -2, 0, 1))
    check_submission(make_zip(class_files(ship=lines)), IMAGES).raise_problem()


@pytest.mark.parametrize("images", [None, {"P0006", "P0006__1024__0___0", "P0006.png"}], ids=["any", "known"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("P0006__1024__0___0", "is the name of a patch"),
        ("P0006__1024__0___0.png", "is the name of a patch"),
        ("P0006__0.5__0___0", "is the name of a patch"),
        ("P0006.png", "has a suffix; did you mean 'P0006'"),
        ("P0006.TIF", "has a suffix; did you mean 'P0006'"),
    ],
)
def test_names_of_patches_and_files_are_refused_whatever_is_known(make_zip, name, what, images):
    error = refused(make_zip(class_files(ship=GOOD.replace("P0001", name))), images=images)
    assert what in error.what and "full test images" in error.fix
    assert ("--format-only" in error.fix) == ("patch" in what)
    xml = make_zip({f"test/{name}.xml": document(name=f"{name}.tif")}, "test.zip")
    assert what in refused(xml, images=images).what


def test_hints_for_unknown_names_end_somewhere(make_zip, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "rsfoundation.evaluation.submission.problems.nearest", lambda *args: calls.append(args) or ""
    )
    lines = "".join(GOOD.replace("P0001", f"Q{number}") * 2 for number in range(200))
    checked = check_submission(make_zip(class_files(ship=lines)), IMAGES)
    assert checked.counts == {"unknown image": 400} and len(calls) == 20


def test_faults_are_counted_by_kind(make_zip):
    error = refused(make_zip(class_files(ship=GOOD + "x\n" * 3 + "P0001 2 1 1 2 1 2 2 1 2\n")))
    assert "2 x wrong columns, 1 x bad score" in error.what


def test_faults_are_counted_beyond_those_that_are_kept(make_zip, capsys):
    path = make_zip(class_files(ship="x\n" * 3000 + GOOD.replace("0.9", "90") * 2))
    checked = check_submission(path)
    assert len(checked.problems) == 1000 and checked.counts == {"wrong columns": 3000, "bad score": 2}
    assert refused(path).what.endswith("further problems: 2999 x wrong columns, 2 x bad score")
    with pytest.raises(SystemExit):
        main(["submission", "check", str(path)])
    assert "the first 20 of 3002 problems" in " ".join(capsys.readouterr().out.split())


def test_good_fair1m(make_zip):
    checked = check_submission(make_zip({"test/7.xml": document()}), {"7"})
    assert not checked.problems and (checked.kind, checked.detections) == ("FAIR1M", 1)


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (document(OBJECT.replace("Small Car", "Small_Car")), "did you mean 'Small Car'", 5),
        (document(OBJECT + OBJECT.replace("0.5", "1.5")), "outside 0..1", 8),
        (document(OBJECT + OBJECT), "line 5 already", 8),
        (document(OBJECT.replace("<point>1,1</point></points>", "</points>")), "4 points; expected 5", 5),
        (document(OBJECT.replace("9, 1", "9")), "is not 'x,y'", 5),
        (document(OBJECT.replace("9,5", "1e300,5")), "the coordinate 1e+300 is beyond any image", 5),
        (document("<!--\n<object>\n-->" + OBJECT.replace("0.5", "7")), "outside 0..1", 7),
        (document(size=f"<width>{'9' * 5000}</width><height>1</height>"), "<size>", None),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + document(), "entities", None),
        (document(OBJECT.replace("9,5", "5,1").replace("1,5", "3,1")), "no area", 5),
        (document()[:-5], "no xml", 8),
        (document(name="8.tif"), "<filename> is '8.tif'", None),
        (document(size="<width>10</width>"), "<size>", None),
        (document().replace("objects>", "things>"), "no <objects>", None),
    ],
)
def test_bad_fair1m_files(make_zip, text, what, line):
    error = refused(make_zip({"test/7.xml": text}))
    assert what in error.what
    assert error.where.endswith("test/7.xml" if line is None else f"test/7.xml:{line}")


def test_fair1m_layout(make_zip):
    assert "at the top of the archive" in refused(make_zip({"7.xml": document()})).what
    assert "in the folder 'out'" in refused(make_zip({"out/7.xml": document()})).what
    both = {"test/7.xml": document(), "test/notes.txt": ""}
    assert "unexpected file" in refused(make_zip(both)).what
    assert "unknown image '7'" in refused(make_zip({"test/7.xml": document()}), images={"8"}).what
    assert "'8' has no xml" in refused(make_zip({"test/7.xml": document()}), images={"7", "8"}).what
    assert "rename it" in refused(make_zip({"test/7.XML": document()})).fix
    text = {"test/7.xml": document(), "test/8.txt": ""}
    assert "1 x missing file" in refused(make_zip(text), images={"7", "8"}).what


def test_a_large_xml_is_not_read(make_zip, monkeypatch):
    path = make_zip({"test/7.xml": document(OBJECT * 100), "test/8.xml": document(name="8.tif")})
    monkeypatch.setattr("rsfoundation.evaluation.submission.fair1m_results._MAX_XML", 10_000)
    checked = check_submission(path)
    assert checked.counts == {"large file": 1} and checked.detections == 1
    assert "max_per_img" in checked.problems[0].fix
