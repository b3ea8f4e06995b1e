"""DOTA label files as they are found in the wild."""

import pytest
from locations import SAMPLES

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.io.dota import LabelledBox, read_dota_txt, write_dota_txt

ROW = "10 10 30 10 30 20 10 20 ship 0"


def write(tmp_path, text, **kwargs):
    path = tmp_path / "P0001.txt"
    path.write_bytes(text.encode(**kwargs))
    return path


def test_reads_header_and_objects(tmp_path):
    label = read_dota_txt(write(tmp_path, f"imagesource:GoogleEarth\ngsd:0.21\n{ROW}\n"))
    assert (label.source, label.gsd) == ("GoogleEarth", 0.21)
    assert label.objects == (LabelledBox((10, 10, 30, 10, 30, 20, 10, 20), "ship", 0, line=3),)


@pytest.mark.parametrize("value", ["null", "None", "", "nan"])
def test_unknown_gsd_is_none(tmp_path, value):
    assert read_dota_txt(write(tmp_path, f"gsd:{value}\n{ROW}")).gsd is None


def test_nine_fields_mean_difficulty_zero(tmp_path):
    (item,) = read_dota_txt(write(tmp_path, "1 2 3 4 5 6 7 8 plane\n")).objects
    assert (item.name, item.difficulty) == ("plane", 0)


@pytest.mark.parametrize("text", ["", "\n\n", "imagesource:x\ngsd:null\n"])
def test_file_without_objects(tmp_path, text):
    assert read_dota_txt(write(tmp_path, text)).objects == ()


def test_crlf_and_byte_order_mark(tmp_path):
    label = read_dota_txt(write(tmp_path, f"gsd:0.5\r\n{ROW}\r\n", encoding="utf-8-sig"))
    assert label.gsd == 0.5
    assert label.objects[0].name == "ship"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1 2 3 4 5 6 7 8", "found 8 fields"),
        ("1 2 3 4 5 6 7 8 ship 0 0.9", "found 11 fields"),
        ("1 2 3 4 x 6 7 8 ship 0", "not a number"),
        ("1 2 3 4 nan 6 7 8 ship 0", "not finite"),
        ("1 2 3 4 5 6 7 8 ship high", "not a whole number"),
        ("3 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4", "is in YOLO-OBB format"),
        ("3 -0.05 0.2 1.02 0.2 1.02 0.4 -0.05 0.4", "is in YOLO-OBB format"),
        ("0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4 ship 0", "fractions of the image, not pixels"),
        ("0 0 1 0 1 0.5 0 0.5 ship", "fractions of the image, not pixels"),
    ],
)
def test_malformed_line_fails_with_file_and_line_or_is_skipped(tmp_path, row, said):
    path = write(tmp_path, f"gsd:1\n{ROW}\n{row}\n{ROW}\n")
    with pytest.raises(DataError, match=said) as caught:
        read_dota_txt(path)
    assert caught.value.where == f"{path}:3"

    report = DatasetReport()
    label = read_dota_txt(path, report)
    assert [item.line for item in label.objects] == [2, 4]
    assert report.counts == {"malformed label lines": 1}
    (example,) = report.examples["malformed label lines"]
    assert example.where == f"{path}:3" and said in example.what


def test_the_fix_for_another_format_names_its_reader(tmp_path):
    with pytest.raises(DataError) as caught:
        read_dota_txt(write(tmp_path, "3 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4"))
    assert "YOLOOBBDataset" in caught.value.fix and "rsf prepare labels yolo" in caught.value.fix


@pytest.mark.parametrize("row", ["0 0 1 0 1 1 0 1 ship", "1 2 3 4 5 6 7 8 9", "0 0 0 0 0 0 0 0 ship 0"])
def test_small_boxes_and_numbers_as_names_are_pixels(tmp_path, row):
    assert len(read_dota_txt(write(tmp_path, row)).objects) == 1


def test_all_malformed_lines_are_in_one_error(tmp_path):
    path = write(tmp_path, f"1 2\n{ROW}\n1 2 3\n")
    with pytest.raises(DataError, match=r"found 2 fields .*first of 2 problems: .*P0001\.txt:3"):
        read_dota_txt(path)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(DataError, match="not found"):
        read_dota_txt(tmp_path / "absent.txt")
    binary = tmp_path / "image.txt"
    binary.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_dota_txt(binary)


def test_written_file_reads_back(tmp_path):
    path = tmp_path / "out.txt"
    objects = [LabelledBox((1.25, 2, 3, 4, 5, 6, 7, -8.5), "large-vehicle", 2)]
    write_dota_txt(path, objects, source="toy", gsd=0.5)
    assert path.read_text().splitlines()[2] == "1.25 2 3 4 5 6 7 -8.5 large-vehicle 2"
    label = read_dota_txt(path)
    assert (label.source, label.gsd) == ("toy", 0.5)
    assert label.objects[0].quad == objects[0].quad
    assert label.objects[0].difficulty == 2


def test_name_with_blank_is_refused(tmp_path):
    with pytest.raises(DataError, match="'Fishing Boat'"):
        write_dota_txt(tmp_path / "x.txt", [LabelledBox((0.0,) * 8, "Fishing Boat")])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample data")
def test_real_files():
    label = read_dota_txt(SAMPLES / "dota_devkit_example/labelTxt/P0706.txt")
    names = [item.name for item in label.objects]
    assert (names.count("ship"), names.count("harbor")) == (531, 5)
    assert label.source == "GoogleEarth"
