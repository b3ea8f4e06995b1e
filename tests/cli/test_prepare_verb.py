"""``rsf prepare``: what its options become, and what it prints."""

import cv2
import numpy as np
import pytest

from rsfoundation.cli import main
from rsfoundation.core.files import read_manifest

SHIP = "10 10 30 10 30 20 10 20 ship 0\n"


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(["prepare", *map(str, words)])
    assert stop.value.code == 0


@pytest.fixture
def source(tmp_path):
    for folder in ("images", "labelTxt", "labelTxt-v1.5"):
        (tmp_path / "full" / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "full/images/P1.png"), np.zeros((90, 120, 3), np.uint8))
    (tmp_path / "full/labelTxt/P1.txt").write_text(SHIP)
    (tmp_path / "full/labelTxt-v1.5/P1.txt").write_text(SHIP * 2)
    return tmp_path / "full"


@pytest.mark.parametrize(
    ("options", "gap", "rates", "labels"),
    [
        ([], 200, [1.0], 1),
        (["--preset", "ms"], 500, [0.5, 1.0, 1.5], 1),
        (["--window", "64", "--gap", "16", "--version", "1.5"], 16, [1.0], 2),
        (["--rate", "0.5", "--rate", "2", "--virtual"], 200, [0.5, 2.0], 1),
    ],
)
def test_options_of_dota(source, tmp_path, capsys, options, gap, rates, labels):
    run("dota", source, "-o", tmp_path / "out", *options)
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.parameters["cut"]["gap"], manifest.parameters["cut"]["rates"]) == (gap, rates)
    assert manifest.content["report"]["objects"] == labels
    assert manifest.parameters.get("virtual", False) == ("--virtual" in options)
    assert "patches" in capsys.readouterr().out


def test_bands_and_range(source, tmp_path):
    run(
        "dota",
        source,
        "-o",
        tmp_path / "out",
        "--bands",
        "3",
        "--pixel-range",
        "0,100",
        "--window",
        "64",
        "--gap",
        "0",
    )
    assert "bands=(3,)" in read_manifest(tmp_path / "out").parameters["loading"]
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "dota", str(source), "-o", str(tmp_path / "v"), "--virtual", "--bands", "3"])
    assert stop.value.code == 2


def test_fair1m_and_index(tmp_path, capsys):
    folder = tmp_path / "test/images"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "1.tif"), np.zeros((90, 120, 3), np.uint8))
    run("fair1m", tmp_path / "test", "-o", tmp_path / "out")
    assert [path.stem for path in (tmp_path / "out/images").iterdir()] == ["1__682__0___0"]
    (tmp_path / "out/index.npz").unlink()
    run("index", tmp_path / "out")
    assert "1 patches, 0 objects" in " ".join(
        capsys.readouterr().out.split()
    )  # lines end where paths are long
    assert (tmp_path / "out/index.npz").is_file()


def test_labels(source, tmp_path, capsys):
    run("labels", "dota", source.parent, "--split", "full", "--to", "coco", "-o", tmp_path / "out")
    assert (tmp_path / "out/annotations.json").is_file()
    assert "objects" in capsys.readouterr().out
