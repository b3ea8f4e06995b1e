"""Change detection data sets beyond two folders of one format: one's own pairs, land cover, wrong pairs."""

import cv2
import numpy as np
import pytest
from cd_samples import write_pair
from mmengine.config import Config
from PIL import Image

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.change import ChangePairs, SECOND_Dataset
from rsfoundation.datasets.pair_check import measure_shift
from rsfoundation.engine.config import config_root
from rsfoundation.registry import DATASETS

LOAD = [
    dict(type="rsfoundation.MultiImgLoadImageFromFile"),
    dict(type="rsfoundation.MultiImgLoadAnnotations"),
    dict(type="rsfoundation.MultiImgPackSegInputs"),
]
LAND = [LOAD[0], dict(type="rsfoundation.MultiImgMultiAnnLoadAnnotations"), LOAD[2]]


def scene(size=(128, 128), seed=0):
    """A textured image, BGR."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def own_pairs(root, **options):
    return ChangePairs(data_root=str(root), pipeline=options.pop("pipeline", LOAD), **options)


def test_files_of_one_name_are_a_pair_whatever_their_format(tmp_path):
    for name, suffixes in (("a", (".png", ".tif", ".png")), ("b", (".jpg", ".jpg", ".tif"))):
        for folder, suffix in zip(("A", "B", "label"), suffixes, strict=True):
            content = np.full((16, 16), 255, np.uint8) if folder == "label" else scene((16, 16))
            write(tmp_path / folder / f"{name}{suffix}", content)
    dataset = own_pairs(tmp_path)
    assert len(dataset) == 2
    for sample in (dataset[0], dataset[1]):
        assert sample["inputs"].shape == (6, 16, 16) and sample["data_samples"].gt_sem_seg.data.all()


def test_two_files_of_one_name_in_a_folder_are_named(tmp_path):
    write_pair(tmp_path, "a")
    write(tmp_path / "A" / "a.tif", scene((40, 50)))
    with pytest.raises(DataError, match=r"'a\.png' and 'a\.tif' have one name"):
        own_pairs(tmp_path)
    assert len(own_pairs(tmp_path, img_suffix=".png")) == 1


@pytest.mark.parametrize("lines", ["two", "two.png", "two.png two.png two.png", "two.png,two.png,two.png"])
def test_a_list_names_pairs_by_one_name_or_by_three(tmp_path, lines):
    for name in ("one", "two"):
        write_pair(tmp_path, name)
    (tmp_path / "train.txt").write_text(f"{lines}\n")
    dataset = own_pairs(tmp_path, ann_file="train.txt")
    assert [path.rsplit("/", 1)[1] for path in dataset.get_data_info(0)["img_path"]] == ["two.png"] * 2


def test_a_listed_name_may_have_blanks(tmp_path):
    write_pair(tmp_path, "two of them")
    (tmp_path / "train.txt").write_text("two of them\n")
    assert len(own_pairs(tmp_path, ann_file="train.txt")) == 1


def test_names_of_a_list_without_a_file_are_counted_and_named(tmp_path):
    write_pair(tmp_path, "one")
    (tmp_path / "train.txt").write_text("one\nabsent\nlost.png\n")
    with pytest.raises(DataError, match=r"does not exist.*4 missing images \(absent, lost.png\)"):
        own_pairs(tmp_path, ann_file="train.txt")
    kept = own_pairs(tmp_path, ann_file="train.txt", on_error="skip")
    kept.full_init()
    assert len(kept) == 1 and kept.report.counts["missing images"] == 4


def test_a_line_of_two_names_is_refused_where_there_are_labels(tmp_path):
    write_pair(tmp_path, "one")
    (tmp_path / "train.txt").write_text("one.png one.png\n")
    with pytest.raises(DataError, match="first date and second date and label"):
        own_pairs(tmp_path, ann_file="train.txt")


def write_second(root, colours=False):
    """One pair as SECOND has it: left half unchanged, then water to building; class numbers or colours."""
    for folder in ("im1", "im2"):
        write(root / "train" / folder / "x.png", scene((8, 12)))
    changed = np.zeros((8, 12), np.uint8)
    changed[:, 6:] = 1
    write(root / "train" / "label" / "x.png", changed)
    for folder, number in (("label1", 1), ("label2", 5)):
        cover = changed * number
        if colours:
            palette = np.array(SECOND_Dataset.METAINFO["semantic_palette"], np.uint8)
            (root / "train" / folder).mkdir(parents=True)
            Image.fromarray(palette[cover]).save(root / "train" / folder / "x.png")
        else:
            write(root / "train" / folder / "x.png", cover)


def second(root, **options):
    folders = dict(img_path_from="im1", img_path_to="im2", seg_map_path="label")
    folders |= dict(seg_map_path_from="label1", seg_map_path_to="label2")
    prefix = {key: f"train/{folder}" for key, folder in folders.items()}
    return SECOND_Dataset(data_root=str(root), data_prefix=prefix, pipeline=LAND, **options)


@pytest.mark.parametrize("colours", [False, True])
def test_land_cover_of_both_dates_is_read_as_numbers_and_as_colours(tmp_path, colours):
    write_second(tmp_path, colours)
    sample = second(tmp_path)[0]["data_samples"]
    assert sample.gt_sem_seg.data[0, 0].tolist() == [0] * 6 + [1] * 6
    assert sample.gt_sem_seg_from.data[0, 0].tolist() == [255] * 6 + [0] * 6
    assert sample.gt_sem_seg_to.data[0, 0].tolist() == [255] * 6 + [4] * 6


def test_other_land_cover_classes_are_mapped_by_their_own_names(tmp_path):
    """Not through the map of the change label, which has two classes."""
    write_second(tmp_path)
    dataset = second(tmp_path, metainfo=dict(semantic_classes=("unchanged", "building", "tree")))
    sample = dataset[0]["data_samples"]
    assert sample.gt_sem_seg.data[0, 0].tolist() == [0] * 6 + [1] * 6
    assert sample.gt_sem_seg_from.data.unique().tolist() == [255]  # water is not among the classes
    assert sample.gt_sem_seg_to.data[0, 0].tolist() == [255] * 6 + [0] * 6
    with pytest.raises(ConfigError, match="no land cover 'buildings'") as caught:
        second(tmp_path, metainfo=dict(semantic_classes=("unchanged", "buildings")))
    assert "building" in caught.value.fix


def test_lists_of_five_names(tmp_path):
    write_second(tmp_path)
    (tmp_path / "train.txt").write_text("x.png x.png x.png x.png x.png\n")
    assert len(second(tmp_path, ann_file="train.txt")) == 1
    (tmp_path / "train.txt").write_text("x.png x.png x.png\n")
    with pytest.raises(DataError, match=r"3 names.*expected one or five"):
        second(tmp_path, ann_file="train.txt")


SHIPPED = sorted((config_root() / "_base_" / "datasets").glob("*.py"))
OF_PAIRS = [path.stem for path in SHIPPED if "img_path_from" in path.read_text()]


@pytest.mark.parametrize("name", OF_PAIRS)
def test_every_shipped_data_set_of_pairs_loads_from_its_layout(name, tmp_path):
    cfg = Config.fromfile(config_root() / "_base_" / "datasets" / f"{name}.py")
    for part in ("train", "val", "test"):
        settings = cfg[f"{part}_dataloader"].dataset
        kind = DATASETS.get(settings.type)
        own_pairs = dict(
            img_suffix=".png", seg_map_suffix=".png", format_seg_map=settings.get("format_seg_map")
        )
        preset = getattr(kind, "PRESET", own_pairs)
        for key, folder in settings.data_prefix.items():
            suffix = preset["seg_map_suffix" if key.startswith("seg") else "img_suffix"] or ".png"
            label = np.zeros((32, 32), np.uint8)
            label[:, 16:] = 255 if preset.get("format_seg_map") else 1
            write(tmp_path / folder / f"x{suffix}", label if key.startswith("seg") else scene((32, 32)))
        if "ann_file" in settings:
            (tmp_path / settings.ann_file).parent.mkdir(exist_ok=True)
            (tmp_path / settings.ann_file).write_text("x.png\n")
        pipeline = LAND if "seg_map_path_from" in settings.data_prefix else LOAD
        dataset = DATASETS.build(dict(settings, data_root=str(tmp_path), pipeline=pipeline))
        assert dataset[0]["data_samples"].gt_sem_seg.data.unique().tolist() == [0, 1]


def shifted(image, right, down):
    move = np.float32([[1, 0, right], [0, 1, down]])
    return cv2.warpAffine(image, move, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def test_a_shift_is_measured():
    image = scene()
    shift = measure_shift(image, shifted(image, 7, -4))
    assert (round(shift.right), round(shift.down)) == (7, -4) and shift.response > 0.1
    assert measure_shift(image, 255 - image).length < 0.5  # other colours, same place
    assert measure_shift(image, scene(seed=1)).response < 0.1  # another place has no shift


def write_dates(root, name, first, second):
    write(root / "A" / f"{name}.png", first)
    write(root / "B" / f"{name}.png", second)
    label = np.zeros(first.shape[:2], np.uint8)
    label[:9, :9] = 255
    write(root / "label" / f"{name}.png", label)


def test_a_shift_between_the_dates_is_a_warning_with_its_size(tmp_path):
    for name in "abc":
        image = scene(seed=ord(name))
        write_dates(tmp_path, name, image, shifted(image, 6, 5) if name == "b" else image)
    dataset = own_pairs(tmp_path)
    (warning,) = dataset.report.warnings
    assert "1 of 3 pairs" in warning and "b.png" in warning
    assert "+6.0 pixels to the right and +5.0 below" in warning.replace("+5.9", "+6.0").replace(
        "+4.9", "+5.0"
    )
    assert len(dataset) == 3  # named, not left out


def test_pairs_of_different_size_are_counted_named_and_can_be_left_out(tmp_path):
    write_dates(tmp_path, "good", scene(), scene())
    for name in ("odd", "odder"):
        write_dates(tmp_path, name, scene(), scene((128, 120)))
    with pytest.raises(DataError, match=r"128x128 and 120x128 pixels.*2 pairs of different size") as caught:
        own_pairs(tmp_path)
    assert "odd.png" in str(caught.value.where)
    kept = own_pairs(tmp_path, on_error="skip")
    assert len(kept) == 1 and kept.report.counts == {"pairs of different size": 2}


def write_geotiff(path, array, crs, left, top, pixel=0.5):
    rasterio = pytest.importorskip("rasterio", reason="GeoTIFF: pip install rsfoundation[geo]")
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(pixel, 0, left, 0, -pixel, top)
    profile = dict(driver="GTiff", width=array.shape[1], height=array.shape[0], count=array.shape[2])
    with rasterio.open(path, "w", dtype="uint8", crs=crs, transform=transform, **profile) as file:
        file.write(array.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (dict(crs="EPSG:32632", left=1000, top=2000), None),
        (dict(crs="EPSG:32633", left=1000, top=2000), "EPSG:32632 and EPSG:32633"),
        (dict(crs="EPSG:32632", left=1004, top=1997), r"\+8\.0 pixels to the right of and \+6\.0 below"),
        (dict(crs="EPSG:32632", left=1000, top=2000, pixel=0.6), "different pixel grids"),
    ],
)
def test_georeferenced_pairs_must_lie_on_one_grid(tmp_path, second, message):
    write_geotiff(tmp_path / "A" / "x.tif", scene(), "EPSG:32632", 1000, 2000)
    write_geotiff(tmp_path / "B" / "x.tif", scene(), **second)
    write(tmp_path / "label" / "x.png", np.eye(128, dtype=np.uint8) * 255)
    if message is None:
        assert len(own_pairs(tmp_path)) == 1
        return
    with pytest.raises(DataError, match=message) as caught:
        own_pairs(tmp_path)
    assert "gdalwarp" in caught.value.fix


def test_bands_count_where_all_of_them_are_read(tmp_path):
    write_dates(tmp_path, "x", scene(), scene()[..., 0])
    assert len(own_pairs(tmp_path)) == 1  # three colours of either
    every = [dict(type="rsfoundation.MultiImgLoadImageFromFile", bands="all"), *LOAD[1:]]
    with pytest.raises(DataError, match="differ in bands: 3 and 1"):
        own_pairs(tmp_path, pipeline=every)
