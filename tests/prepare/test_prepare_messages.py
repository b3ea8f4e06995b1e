"""What ``rsf prepare`` says of wrong input: one sentence with place and fix, and nothing left behind."""

import json

import pytest

from rsfoundation.cli import main
from rsfoundation.datasets.oriented.annotations import ORPHANS
from rsfoundation.prepare.tiling import LOST, OUTSIDE

SHIP = "10 10 30 10 30 20 10 20 ship 0\n"


@pytest.fixture
def rsf(tmp_path, monkeypatch, capsys):
    """Run a line of ``rsf prepare`` in the temporary folder; return the status and both outputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(line):
        with pytest.raises(SystemExit) as stop:
            main(["prepare", *line.split()])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("dota missing -o made/out", ["data folder not found: missing", "<root>/<split> for `rsf prepare`"]),
        ("dota empty -o made/out", ["no image in the folder", "known suffixes"]),
        ("dota bare -o made/out", ["no label file", "P1.png", "--on-error skip (on_error='skip'"]),
        ("dota full -o made/out --window 0", ["windows of 0 px", "choose 1 to"]),
        ("dota full -o made/out --window 64 --gap 64", ["cannot share 64 px", "choose 0 to 63"]),
        ("dota full -o full", ["holds files that it is made from", "choose another folder"]),
        ("fair1m full -o full/out", ["would be read as a part of it", "choose a folder elsewhere"]),
        ("dota full -o file/out", ["nothing can be written", "no part of its path may be a file"]),
        ("dota full -o /proc/out", ["nothing can be written", "/proc"]),
        ("dota seven -o made/out", ["found 7 fields", "P1.txt:2", "--on-error skip (on_error='skip'"]),
        ("dota full full -o made/out", ["two images are called P1", "name each folder once"]),
        ("labels dtoa . -s full --to coco -o made/out", ["did you mean 'dota'", "one of dota, dior"]),
        (
            "labels dior . -s full --to coco -o made/out --version 1.5",
            ["no versions of dior", "leave it out"],
        ),
        ("labels dota . -s full --to coco -o made/out --classes none.txt", ["class list cannot be read"]),
    ],
)
def test_wrong_input_ends_in_a_sentence(make_split, tmp_path, rsf, line, sentences):
    make_split("full", P1=SHIP)
    make_split("empty")
    make_split("bare", P1=None)
    make_split("seven", P1=SHIP + "1 2 3 4 5 6 7\n")
    (tmp_path / "file").write_text("")
    status, _, errors = rsf(line)
    assert status == 2
    for sentence in sentences:
        assert sentence in errors
    assert "Traceback" not in errors
    assert {path.name for path in tmp_path.glob("made/*")} <= {".lock"}
    assert not (tmp_path / "full/out").exists()


def test_what_is_left_out_stands_in_the_table(make_split, tmp_path, rsf):
    source = make_split("full", P1=SHIP + "120 5 140 5 140 15 120 15 ship 0\n")
    (source / "labelTxt/P9.txt").write_text("")
    status, table, _ = rsf("dota full -o out --virtual --on-error skip")
    rows = [line.strip("│ ").split("│") for line in table.splitlines() if line.startswith("│")]
    figures = {name.strip(): value.strip() for name, value in rows}
    assert status == 0
    kinds = (OUTSIDE, ORPHANS, LOST, "placed")
    assert tuple(figures[kind] for kind in kinds) == ("1", "1", "0", "1")


def test_labels_of_a_version_and_of_other_classes(make_split, tmp_path, rsf):
    make_split("full", P1=SHIP.replace("ship", "helipad"))
    assert rsf("labels dota . -s full --to coco -o out --version 2.0")[0] == 0
    assert json.loads((tmp_path / "out/annotations.json").read_text())["annotations"][0]["category_id"] == 18
    (tmp_path / "mine.txt").write_text("helipad\n")
    assert rsf("labels dota . -s full --to coco -o out --classes mine.txt")[0] == 0
    assert json.loads((tmp_path / "out/annotations.json").read_text())["annotations"][0]["category_id"] == 1
