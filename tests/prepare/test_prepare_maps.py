"""Data sets of label maps and pairs: from folders and archives to tiles, with resuming."""

import shutil

import cv2
import numpy as np
import pytest
from check_samples import PALETTE, SIDE, make_pairs, make_potsdam, save, texture
from locations import SAMPLES

from rsfoundation.cli.app import main
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.files import read_manifest
from rsfoundation.datasets.segmentation import ISAIDDataset, LoveDADataset, UAVidDataset
from rsfoundation.io.label_images import read_label_image
from rsfoundation.prepare import maps
from rsfoundation.prepare.check.run import check_data
from rsfoundation.prepare.layouts import LAYOUTS
from rsfoundation.prepare.maps import TILINGS, prepare_maps


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_tiles_of_potsdam_hold_the_pixels_and_classes_of_their_place(tmp_path):
    source = make_potsdam(tmp_path / "source", count=2)
    made = prepare_maps("potsdam", source, tmp_path / "out", window=64, stride=32)
    assert made.tiles == {"all": 2 * 4} and made.report.images == 2
    name = "top_potsdam_2_1_RGB_32_0_96_64.png"
    whole = read(source / "2_Ortho_RGB/top_potsdam_2_1_RGB.tif")
    assert np.array_equal(read(tmp_path / "out/img_dir/all" / name), whole[:64, 32:])
    colours = read(source / "5_Labels_all/top_potsdam_2_1_label.tif")[:64, 32:, ::-1]
    labels = read_label_image(tmp_path / "out/ann_dir/all" / name)
    assert np.array_equal(np.array(PALETTE)[labels.values], colours) and labels.palette[:6] == PALETTE
    check = check_data(tmp_path / "out")
    assert check.splits[0].data.classes[:2] == ("impervious_surface", "building") and check.errors == 0
    assert prepare_maps("potsdam", source, tmp_path / "out", window=64, stride=32).reused


def test_pairs_from_an_archive(tmp_path):
    make_pairs(tmp_path / "levir", train=2, val=1)
    archive = shutil.make_archive(str(tmp_path / "levir"), "zip", tmp_path / "levir")
    made = prepare_maps("levir-cd", archive, tmp_path / "out", window=48)
    assert made.tiles == {"train": 8, "val": 4}
    for folder in ("A", "B", "label"):
        whole = read(tmp_path / "levir/train" / folder / "train_1.png")
        assert np.array_equal(
            read(tmp_path / "out/train" / folder / "train_1_48_0_96_48.png"), whole[:48, 48:]
        )
    assert not list(tmp_path.glob(".out*")), "nothing but the result is left"


def test_an_interrupted_run_continues(tmp_path, monkeypatch):
    source = make_pairs(tmp_path / "source", train=4, val=1)
    write, written = maps._write_image, []

    def interrupted(folder, stem, pixels):
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(stem)
        write(folder, stem, pixels)

    monkeypatch.setattr(maps, "_write_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_maps("levir-cd", source, tmp_path / "out", window=0, workers=1)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(maps, "_write_image", write)
    made = prepare_maps("levir-cd", source, tmp_path / "out", window=0, workers=1)
    assert made.resumed == 2 and made.tiles == {"train": 4, "val": 1}
    assert len(list((tmp_path / "out/train/B").iterdir())) == 4


def test_broken_files(tmp_path):
    source = make_pairs(tmp_path / "source", train=3, val=1)
    broken = source / "train/B/train_1.png"
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(DataError) as error:
        prepare_maps("levir-cd", source, tmp_path / "out", window=0)
    assert "train_1.png" in str(error.value.where)
    made = prepare_maps("levir-cd", source, tmp_path / "out", window=0, on_error="skip")
    assert made.tiles["train"] == 2 and made.report.counts == {"broken images and label maps": 1}


def make(kind, root):
    """Write a sample of a data set in its layout; return the splits."""
    index = np.kron(np.arange(4).reshape(2, 2), np.ones((SIDE // 2, SIDE // 2), int)).astype(np.uint8)

    def coloured(data):
        return np.array(data.METAINFO["palette"], np.uint8)[index]

    image, binary = texture(1), np.where(index > 1, 255, 0).astype(np.uint8)
    other, seq, top = texture(2), "uavid_train/seq", "top_mosaic_09cm_area1.tif"
    isaid = "train/Semantic_masks/P0000_instance_color_RGB.png"
    files = {
        "loveda": {
            "Train/Rural/images_png/0.png": image, "Train/Rural/masks_png/0.png": index + 1,
            "Train/Urban/images_png/0.png": other, "Train/Urban/masks_png/0.png": index,
        },
        "uavid": {
            f"{seq}1/Images/000000.png": image, f"{seq}1/Labels/000000.png": coloured(UAVidDataset),
            f"{seq}2/Images/000000.png": other, f"{seq}2/Labels/000000.png": coloured(UAVidDataset),
        },
        "isaid": {"train/images/P0000.png": image, isaid: coloured(ISAIDDataset)},
        "whu-building": {"train/image/1.tif": image, "train/label/1.tif": binary},
        "vaihingen": {f"top/{top}": image, f"gts/{top}": np.array(PALETTE, np.uint8)[index]},
        "s2looking": {"train/Image1/1.png": image, "train/Image2/1.png": other, "train/label/1.png": binary},
        "cdd": {"train/A/1.jpg": image, "train/B/1.jpg": other, "train/OUT/1.jpg": binary},
        "whu-cd": {"A/1.png": image, "B/1.png": other, "label/1.png": binary},
        **{
            name: {"train/time1/1.png": image, "train/time2/1.png": other, "train/label/1.png": binary}
            for name in ("clcd", "sysu-cd")
        },
        "dsifn": {"train/t1/1.jpg": image, "train/t2/1.jpg": other, "train/mask/1.png": binary // 255},
    }[kind]  # fmt: skip
    for name, picture in files.items():
        save(root / name, picture)
    if kind == "whu-cd":
        (root / "list").mkdir()
        (root / "list/train.txt").write_text("1.png\n")
    return index


@pytest.mark.parametrize("kind", [kind for kind in TILINGS if kind not in ("potsdam", "levir-cd", "second")])
def test_every_layout(kind, tmp_path):
    index = make(kind, tmp_path / "source")
    main_arguments = ["prepare", kind, str(tmp_path / "source"), "-o", str(tmp_path / "out"), "--window", "0"]
    with pytest.raises(SystemExit) as stop:
        main(main_arguments)
    assert stop.value.code == 0
    labels = sorted((tmp_path / "out").rglob("ann_dir/**/*.png")) or sorted(
        (tmp_path / "out").rglob("label/*.png")
    )
    assert len(labels) == (2 if kind in ("loveda", "uavid") else 1)
    values = read_label_image(labels[0]).values
    pairs = kind in ("s2looking", "cdd", "whu-cd", "clcd", "sysu-cd", "dsifn")
    expected = np.where(index > 1, 255, 0) if pairs else (index > 1) if kind == "whu-building" else index
    assert np.array_equal(values, expected.astype(np.uint8))
    assert check_data(tmp_path / "out").errors == 0


@pytest.mark.parametrize(
    ("kind", "data"), [("loveda", LoveDADataset), ("uavid", UAVidDataset), ("isaid", ISAIDDataset)]
)
def test_classes_have_the_order_and_the_colours_of_the_data_sets(kind, data, tmp_path):
    make(kind, tmp_path / "source")
    prepare_maps(kind, tmp_path / "source", tmp_path / "out", window=0)
    content = read_manifest(tmp_path / "out").content
    assert content["classes"] == list(data.METAINFO["classes"])
    assert content["palette"] == data.METAINFO["palette"]


def test_impossible_settings(tmp_path):
    source = make_potsdam(tmp_path / "source", count=1)
    with pytest.raises(ConfigError, match="cannot have a step"):
        prepare_maps("potsdam", source, tmp_path / "out", window=32, stride=64)
    with pytest.raises(DataError, match="another layout"):
        prepare_maps("loveda", source, tmp_path / "out")
    assert set(TILINGS) <= set(LAYOUTS)


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples")
@pytest.mark.parametrize(("kind", "folder"), [
    ("loveda", "loveda"), ("potsdam", "potsdam"), ("levir-cd", "levircd/levircdplus/LEVIR-CD+"),
])  # fmt: skip
def test_samples(kind, folder, tmp_path):
    made = prepare_maps(kind, SAMPLES / "torchgeo_fake" / folder, tmp_path / "out", on_error="skip")
    assert sum(made.tiles.values()) >= 2
