"""Published layouts, patches, class files, mosaics, and what is wrong with images and masks."""

import numpy as np
import pytest
from locations import SAMPLES
from mmseg.datasets import LoveDADataset as MMSegLoveDA
from mmseg.datasets import iSAIDDataset as MMSegISAID
from PIL import Image
from raster_files import write_tiff

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.segmentation import (
    ISAIDDataset,
    LoveDADataset,
    MaskDataset,
    PotsdamDataset,
    UAVidDataset,
    VaihingenDataset,
    read_class_file,
)

LOADING = [dict(type="rsfoundation.LoadImageFromFile"), dict(type="rsfoundation.LoadSegmentationMask")]
OWN = dict(classes=("field", "dyke"), palette=[[10, 20, 30], [200, 100, 50]])
FOLDERS = dict(img_path="images", seg_map_path="masks")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def plain(value, side=8):
    return np.full((side, side, 3), value, np.uint8)


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)


def folder(root, count=2, mask=None, image=None, suffix=".png"):
    """A folder data set of the classes field and dyke."""
    rng = np.random.default_rng(0)
    for index in range(count):
        save(root / "images" / f"{index}{suffix}", plain(index) if image is None else image)
        save(root / "masks" / f"{index}{suffix}", rng.integers(0, 2, (8, 8)) if mask is None else mask)
    return root


def build(root, pipeline=LOADING, **options):
    options = dict(metainfo=OWN, img_suffix=".png", **options)
    return MaskDataset(data_root=str(root), data_prefix=FOLDERS, pipeline=pipeline, **options)


# --- layouts


@pytest.mark.parametrize("eroded", [False, True])
def test_potsdam_as_distributed(tmp_path, eroded):
    labels = "5_Labels_all_noBoundary" if eroded else "5_Labels_all"
    end = "label_noBoundary" if eroded else "label"
    for tile in PotsdamDataset.splits["train"]:
        save(tmp_path / "2_Ortho_RGB" / f"top_potsdam_{tile}_RGB.tif", plain(7))
        mask = plain(255)
        mask[0] = 0 if eroded else 255
        save(tmp_path / labels / f"top_potsdam_{tile}_{end}.tif", mask)
    data = PotsdamDataset(data_root=str(tmp_path), eroded=eroded, pipeline=LOADING)
    assert len(data) == 24
    assert np.unique(data[0]["gt_seg_map"]).tolist() == ([0, 255] if eroded else [0])
    assert len(PotsdamDataset(data_root=str(tmp_path), pipeline=LOADING, eroded=eroded, split=["7_10"])) == 1
    left = PotsdamDataset(
        data_root=str(tmp_path), pipeline=LOADING, eroded=eroded, exclude=["top_potsdam_7_10_RGB"]
    )
    assert len(left) == 23
    with pytest.raises(DataError, match=r"14 of 14 tiles are missing, first: top_potsdam_2_13_RGB\.tif"):
        PotsdamDataset(data_root=str(tmp_path), split="test", pipeline=LOADING)


def test_splits_of_isprs_are_disjoint_and_whole():
    for kind, train, test in ((PotsdamDataset, 24, 14), (VaihingenDataset, 16, 17)):
        assert (len(set(kind.splits["train"])), len(set(kind.splits["test"]))) == (train, test)
        assert not set(kind.splits["train"]) & set(kind.splits["test"])
    with pytest.raises(ConfigError, match="split"):
        PotsdamDataset(split="trian", pipeline=LOADING)


def test_vaihingen_as_distributed(tmp_path):
    labels = tmp_path / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"
    for tile in (2, 4):
        save(tmp_path / "top" / f"top_mosaic_09cm_area{tile}.tif", plain(7))
        save(labels / f"top_mosaic_09cm_area{tile}.tif", plain(0) + np.array([0, 0, 255], np.uint8))
    data = VaihingenDataset(data_root=str(tmp_path), split=[2, 4], pipeline=LOADING)
    assert [np.unique(data[i]["gt_seg_map"]).tolist() for i in range(2)] == [[1], [1]]


def test_loveda_ignores_its_zero_and_counts_from_one(tmp_path):
    for split, part, name in (("Train", "Rural", "0"), ("Train", "Urban", "1"), ("Val", "Rural", "2")):
        save(tmp_path / split / part / "images_png" / f"{name}.png", plain(3))
        save(tmp_path / split / part / "masks_png" / f"{name}.png", numbers(8, 1).repeat(8, axis=1))
    save(tmp_path / "Test" / "Rural" / "images_png" / "9.png", plain(3))
    data = LoveDADataset(data_root=str(tmp_path), split=["Train", "Val"], pipeline=LOADING)
    assert len(data) == 3
    assert data[0]["gt_seg_map"][:, 0].tolist() == [255, 0, 1, 2, 3, 4, 5, 6]
    test = LoveDADataset(data_root=str(tmp_path), split="Test", pipeline=LOADING[:1], test_mode=True)
    assert len(test) == 1 and "seg_map_path" not in test.get_data_info(0)
    with pytest.raises(DataError, match="there is no image") as caught:
        LoveDADataset(data_root=str(tmp_path), split="train", pipeline=LOADING)
    assert "Test, Train, Val" in caught.value.fix


def test_uavid_reads_colours_of_every_sequence(tmp_path):
    for sequence in ("seq1", "seq22"):
        save(tmp_path / "uavid_train" / sequence / "Images" / "000000.png", plain(3))
        save(tmp_path / "uavid_train" / sequence / "Labels" / "000000.png", plain([128, 64, 128]))
    data = UAVidDataset(data_root=str(tmp_path), pipeline=LOADING)
    assert len(data) == 2 and np.unique(data[1]["gt_seg_map"]).tolist() == [1]


def test_isaid_finds_the_mask_of_an_image(tmp_path):
    for name in ("P0000", "P1527"):
        save(tmp_path / "train" / "images" / f"{name}.png", plain(3))
        save(tmp_path / "train" / "Semantic_masks" / f"{name}_instance_color_RGB.png", plain([0, 127, 255]))
    data = ISAIDDataset(data_root=str(tmp_path), exclude=["P1527"], pipeline=LOADING)
    assert len(data) == 1 and np.unique(data[0]["gt_seg_map"]).tolist() == [14]
    with pytest.raises(ConfigError, match="no image 'P9999'"):
        ISAIDDataset(data_root=str(tmp_path), exclude=["P9999"], pipeline=LOADING)


@pytest.mark.parametrize(("ours", "theirs"), [(LoveDADataset, MMSegLoveDA), (ISAIDDataset, MMSegISAID)])
def test_colours_are_those_of_mmseg(ours, theirs):
    assert ours.METAINFO["palette"] == [list(colour) for colour in theirs.METAINFO["palette"]]
    assert len(ours.METAINFO["classes"]) == len(theirs.METAINFO["classes"])


# --- patches


def test_patches_cover_an_image_and_equal_its_parts(tmp_path):
    image, mask = plain(0, 40), np.random.default_rng(0).integers(0, 2, (40, 40))
    image[..., 0] = numbers(40, 1)
    save(tmp_path / "images" / "a.png", image)
    save(tmp_path / "masks" / "a.png", mask)
    data = build(tmp_path, patch=16, stride=12)
    covered = np.zeros((40, 40), int)
    for index in range(len(data)):
        item = data[index]
        left, top, side = item["window"]
        part = slice(top, top + side), slice(left, left + side)
        covered[part] += 1
        assert np.array_equal(item["gt_seg_map"], mask[part])
        assert np.array_equal(item["img"][..., ::-1], image[part])
    assert covered.min() >= 1 and len(data) == 9


def test_at_test_each_pixel_counts_once(tmp_path):
    save(tmp_path / "images" / "a.png", np.zeros((20, 30, 3)))
    save(tmp_path / "masks" / "a.png", np.ones((20, 30)))
    data = build(tmp_path, patch=16, test_mode=True)
    labels = [data[index]["gt_seg_map"] for index in range(len(data))]
    assert len(data) == 4 and all(one.shape == (16, 16) for one in labels)
    assert sum(int((one == 1).sum()) for one in labels) == 600
    assert sum(int((one == 255).sum()) for one in labels) == 4 * 256 - 600
    overlapping = build(tmp_path, patch=16, stride=8, test_mode=True)
    assert any("count several times" in warning for warning in overlapping.report.warnings)
    with pytest.raises(ConfigError, match="leave pixels out"):
        build(tmp_path, patch=16, stride=20)


def test_patches_of_tiffs_are_read_by_windows(tmp_path, raster_library):
    image = np.random.default_rng(0).integers(0, 200, (64, 48, 3)).astype(np.uint8)
    mask = np.random.default_rng(1).integers(0, 2, (64, 48)).astype(np.uint8)
    write_tiff(tmp_path / "images" / "a.tif", image, photometric="rgb", tile=(16, 16))
    write_tiff(tmp_path / "masks" / "a.tif", mask, tile=(16, 16))
    data = MaskDataset(
        data_root=str(tmp_path),
        data_prefix=FOLDERS,
        metainfo=OWN,
        img_suffix=".tif",
        seg_map_suffix=".tif",
        pipeline=LOADING,
        patch=32,
    )
    left, top, side = data[3]["window"]
    assert np.array_equal(data[3]["gt_seg_map"], mask[top : top + side, left : left + side])


def test_a_mask_of_another_size_is_found_by_patches(tmp_path):
    folder(tmp_path, 3)
    save(tmp_path / "masks" / "1.png", np.zeros((8, 9)))
    with pytest.raises(DataError, match="the mask is 9x8, its image 8x8 pixels"):
        build(tmp_path, patch=4)


# --- class files


@pytest.mark.parametrize(
    "text",
    [
        "road 255 0 0\nlow vegetation 0 255 0\n",
        "road,#ff0000\n\n// a note\nlow vegetation, #00FF00\n",
        "road;255;0;0\nlow vegetation\t0\t255\t0",
    ],
)
def test_class_files(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text)
    assert read_class_file(tmp_path / "classes.txt") == dict(
        classes=["road", "low vegetation"], palette=[[255, 0, 0], [0, 255, 0]]
    )


def test_class_files_without_colours(tmp_path):
    (tmp_path / "classes.txt").write_text("road\nclass 7\n")
    assert read_class_file(tmp_path / "classes.txt") == dict(classes=["road", "class 7"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 classes"),
        ("road 255 0 0\nroad 0 0 0", r"'road' occurs twice"),
        ("road 255 0 0\npath 255 0 0", r"colour \[255, 0, 0\] occurs twice"),
        ("road 256 0 0", "above 255"),
        ("road 255 0 0\npath", "2 classes, 1 of them with a colour"),
    ],
)
def test_broken_class_files_name_the_line(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_class_file(tmp_path / "classes.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_class_file(tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot be read") as caught:  # looked for in the data folder first
        MaskDataset(data_root=str(tmp_path), data_prefix=FOLDERS, metainfo=dict(classes="none.txt"))
    assert caught.value.where == str(tmp_path / "none.txt")


def test_a_folder_with_its_class_file(tmp_path):
    folder(tmp_path, 1, mask=plain([200, 100, 50]))
    (tmp_path / "classes.txt").write_text("field 10 20 30\ndyke 200 100 50\n")
    data = MaskDataset(
        data_root=str(tmp_path),
        data_prefix=FOLDERS,
        metainfo=dict(classes="classes.txt"),
        img_suffix=".png",
        pipeline=LOADING,
    )
    assert data.metainfo["classes"] == ["field", "dyke"] and data[0]["gt_seg_map"].max() == 1


# --- mosaic


def test_a_mosaic_has_parts_of_four_images_with_their_labels(tmp_path):
    for index in range(4):
        save(tmp_path / "images" / f"{index}.png", plain(10 * index + 10, 16))
        save(tmp_path / "masks" / f"{index}.png", np.full((16, 16), index % 2))
    data = build(tmp_path, pipeline=[*LOADING, dict(type="rsfoundation.Mosaic", prob=1.0)])
    np.random.seed(3)
    seen = set()
    for _ in range(8):
        item = data[2]
        values = item["img"][..., 0]
        assert item["img"].shape == (16, 16, 3) and values[0, 0] == 30, "the first part is the image itself"
        assert np.array_equal((values // 10 - 1) % 2, item["gt_seg_map"]), "labels move with their pixels"
        seen |= set(np.unique(values).tolist())
    assert seen == {10, 20, 30, 40}


def test_no_mosaic_without_luck(tmp_path):
    data = build(folder(tmp_path), pipeline=[*LOADING, dict(type="rsfoundation.Mosaic", prob=0.0)])
    assert np.unique(data[1]["img"]).tolist() == [1] and "mix_results" not in data[1]


# --- bad input


def test_colours_off_by_a_few_values(tmp_path):
    mask = plain(0) + np.array([200, 100, 50], np.uint8)
    mask[:4] = [10, 20, 30]
    mask[0] = [13, 18, 31]
    folder(tmp_path, 2, mask=mask)
    with pytest.raises(DataError, match=r"8 pixels of the mask carry no known label") as caught:
        build(tmp_path)
    assert "off_palette='nearest'" in caught.value.fix and "0.png" in str(caught.value.where)
    nearest = [LOADING[0], dict(type="rsfoundation.LoadSegmentationMask", off_palette="nearest")]
    labels = build(tmp_path, pipeline=nearest)[0]["gt_seg_map"]
    assert (labels[:4] == 0).all() and (labels[4:] == 1).all()
    nearest[1] = dict(nearest[1], tolerance=2.0)
    assert (build(tmp_path, pipeline=nearest)[0]["gt_seg_map"][0] == 255).all()


def test_jpeg_masks_are_read_by_their_nearest_colours(tmp_path):
    mask = np.zeros((64, 64, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    mask[:, :32] = [10, 20, 30]
    path = tmp_path / "masks" / "0.jpg"
    path.parent.mkdir()
    Image.fromarray(mask).save(path, quality=80)
    save(tmp_path / "images" / "0.jpg", plain(5, 64))
    data = MaskDataset(
        data_root=str(tmp_path),
        data_prefix=FOLDERS,
        metainfo=OWN,
        seg_map_suffix=".jpg",
        pipeline=[LOADING[0], dict(type="rsfoundation.LoadSegmentationMask", off_palette="nearest")],
    )
    labels = data[0]["gt_seg_map"]
    assert (labels[:, :28] == 0).all() and (labels[:, 36:] == 1).all()


@pytest.mark.parametrize(("where", "message"), [((5e5 + 2, 5e6), "4 pixels apart"), (None, "another CRS")])
def test_a_mask_of_another_place_is_refused(tmp_path, raster_library, where, message):
    crs = "EPSG:32633" if where else "EPSG:4326"
    image, mask = plain(5), np.zeros((8, 8), np.uint8)
    write_tiff(tmp_path / "images" / "a.tif", image, photometric="rgb", crs="EPSG:32633")
    write_tiff(tmp_path / "masks" / "a.tif", mask, crs=crs, origin=where or (15.0, 45.0))
    options = dict(metainfo=OWN, data_prefix=FOLDERS, img_suffix=".tif", seg_map_suffix=".tif")
    with pytest.raises(DataError, match=message) as caught:
        MaskDataset(data_root=str(tmp_path), pipeline=LOADING, **options)
    assert "a.tif" in str(caught.value.where) and "gdalwarp" in caught.value.fix
    write_tiff(tmp_path / "masks" / "a.tif", mask, crs="EPSG:32633")
    assert len(MaskDataset(data_root=str(tmp_path), pipeline=LOADING, **options)) == 1


@pytest.mark.parametrize("kind", ["nodata", "nan"])
def test_pixels_without_data_are_ignored(tmp_path, raster_library, kind):
    image = np.full((8, 8, 2), 5, np.float32)
    image[:3] = -1 if kind == "nodata" else np.nan
    write_tiff(tmp_path / "images" / "a.tif", image, nodata=-1 if kind == "nodata" else None)
    write_tiff(tmp_path / "masks" / "a.tif", np.ones((8, 8), np.uint8))
    loading = dict(type="rsfoundation.LoadImageFromFile", bands="all", pixel_range="native")
    data = MaskDataset(
        data_root=str(tmp_path),
        data_prefix=FOLDERS,
        metainfo=OWN,
        img_suffix=".tif",
        seg_map_suffix=".tif",
        pipeline=[loading, LOADING[1]],
    )
    item = data[0]
    assert (item["gt_seg_map"][:3] == 255).all() and (item["gt_seg_map"][3:] == 1).all()
    assert np.isfinite(item["img"]).all()


def test_missing_pixels_of_a_mask_are_ignored(tmp_path, raster_library):
    mask = np.ones((8, 8), np.int16)
    mask[0], mask[7] = -99, 0
    write_tiff(tmp_path / "images" / "a.tif", plain(5), photometric="rgb")
    write_tiff(tmp_path / "masks" / "a.tif", mask, nodata=-99)
    data = MaskDataset(
        data_root=str(tmp_path),
        data_prefix=FOLDERS,
        metainfo=OWN,
        img_suffix=".tif",
        seg_map_suffix=".tif",
        pipeline=LOADING,
    )
    assert data[0]["gt_seg_map"][:, 0].tolist() == [255, 1, 1, 1, 1, 1, 1, 0]


def test_images_with_another_number_of_bands(tmp_path, raster_library):
    for name, bands in (("a", 4), ("b", 4), ("c", 5)):
        write_tiff(tmp_path / "images" / f"{name}.tif", np.ones((8, 8, bands), np.uint8))
        write_tiff(tmp_path / "masks" / f"{name}.tif", np.zeros((8, 8), np.uint8))
    options = dict(
        data_root=str(tmp_path),
        data_prefix=FOLDERS,
        metainfo=OWN,
        img_suffix=".tif",
        seg_map_suffix=".tif",
        pipeline=[dict(type="rsfoundation.LoadImageFromFile", bands="all"), LOADING[1]],
    )
    with pytest.raises(DataError, match=r"has 5 bands, 2 others have 4") as caught:
        MaskDataset(**options)
    assert str(caught.value.where).endswith("c.tif")
    left = MaskDataset(**options, on_error="skip")
    assert len(left) == 2 and left.report.counts["images with another number of bands"] == 1


def test_masks_that_are_ignored_everywhere_are_counted(tmp_path):
    folder(tmp_path, 3)
    save(tmp_path / "masks" / "1.png", np.full((8, 8), 255))
    report = build(tmp_path).report
    (found,) = report.files["label maps that are ignored everywhere"]
    assert found.endswith("1.png")


def test_a_zero_label_that_is_a_class_is_suspected(tmp_path):
    folder(tmp_path, 2)
    warnings = build(tmp_path, reduce_zero_label=True).report.warnings
    assert any("reduce_zero_label=False" in warning for warning in warnings)
    for index in range(2):
        save(tmp_path / "masks" / f"{index}.png", np.random.default_rng(0).integers(0, 3, (8, 8)))
    assert not build(tmp_path, reduce_zero_label=True).report.warnings


# --- real images in their layouts


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples here")
@pytest.mark.parametrize("name", ["potsdam_mmseg", "vaihingen_mmseg", "loveda_mmseg"])
def test_real_images_are_read(name):
    kind = LoveDADataset if name.startswith("loveda") else PotsdamDataset
    meta = dict(kind.METAINFO)
    data = MaskDataset(
        data_root=str(SAMPLES / name),
        data_prefix=dict(img_path="img_dir", seg_map_path="ann_dir"),
        metainfo=meta,
        img_suffix=".png",
        reduce_zero_label=True,
        pipeline=LOADING,
    )
    labels = data[0]["gt_seg_map"]
    assert data[0]["img"].shape[:2] == labels.shape
    assert set(np.unique(labels)) <= {*range(len(meta["classes"])), 255}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples here")
def test_loveda_folders_are_read():
    root = SAMPLES / "torchgeo_fake" / "loveda"
    data = LoveDADataset(data_root=str(root), split=["Train", "Val"], pipeline=LOADING)
    assert len(data) == 4 and data.report.counts["label maps that are ignored everywhere"]
