"""Each statement of docs/reading_images.md is the docstring of a test here."""

import ast
import json
from pathlib import Path

import coco_files
import numpy as np
import pytest
from locations import ROOT
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from raster_files import hide_rasterio, write_tiff

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.task import Window
from rsfoundation.datasets import label_check
from rsfoundation.datasets.instance import CocoInstanceDataset
from rsfoundation.datasets.segmentation import MaskDataset
from rsfoundation.datasets.transforms.images import LoadImageFromFile
from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import loading_of, use_image_loading
from rsfoundation.engine.run_hooks import PictureHook
from rsfoundation.io import loading as loading_module
from rsfoundation.io import raster_formats
from rsfoundation.io.label_images import as_palette, decode_change, decode_mask, read_label_image
from rsfoundation.io.loading import ImageLoading, PixelRange
from rsfoundation.io.rasters import RasterReader
from rsfoundation.models.preprocessors import SegDataPreProcessor
from rsfoundation.registry import DATASETS

PAGE = ROOT / "docs" / "reading_images.md"
RNG = np.random.default_rng(2)
COLOURS = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
SEVEN = RNG.integers(0, 256, (40, 50, 7), dtype=np.uint8)
LABELS = RNG.integers(0, 3, (40, 50)).astype(np.uint8)
CHANGED = (LABELS == 2).astype(np.uint8)
PALETTE = as_palette([[10, 10, 10], [255, 0, 0], [0, 0, 255]])
META = dict(classes=("ground", "roof", "water"), palette=[list(colour) for colour in PALETTE])
TWO = dict(classes=("other", "roof"), palette=[[0, 0, 0], [255, 255, 255]])
MASKS = [dict(type="rsfoundation.LoadImageFromFile"), dict(type="rsfoundation.LoadSegmentationMask")]


def statements():
    return [line[2:].strip() for line in PAGE.read_text().splitlines() if line.startswith("- ")]


def test_the_page_and_this_file_say_the_same():
    functions = [
        node for node in ast.parse(Path(__file__).read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    named = {ast.get_docstring(node) for node in functions if node.name.startswith("test_")}
    listed = statements()
    assert len(listed) == len(set(listed)) > 40
    missing = [statement for statement in listed if statement not in named]
    assert not missing, f"statements without a test: {missing}"


@pytest.fixture
def warned(monkeypatch):
    monkeypatch.setattr(loading_module, "_WARNED", set())
    found = []
    monkeypatch.setattr(loading_module, "_warn", found.append)
    return found


def masks(root, *values, meta=META, image=None, pipeline=MASKS, **options):
    """Write masks with their images and build the data set."""
    init_default_scope("mmseg")
    for index, mask in enumerate(values):
        for folder, picture in (
            ("img", image or Image.new("RGB", mask.shape[::-1])),
            ("mask", Image.fromarray(mask)),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture.save(root / folder / f"{index:02}.png")
    prefix = dict(img_path="img", seg_map_path="mask")
    return MaskDataset(
        data_root=str(root), data_prefix=prefix, metainfo=meta, img_suffix=".png", seg_map_suffix=".png",
        pipeline=pipeline, **options,
    )  # fmt: skip


def changes(root, preset, label, **options):
    """Write one pair with a label and build the data set."""
    init_default_scope("mmseg")
    for folder in "AB":
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", label.shape[1::-1]).save(root / folder / "a.png")
    (root / "label").mkdir(exist_ok=True)
    Image.fromarray(label).save(root / "label" / "a.png")
    steps = [
        dict(type="rsfoundation.MultiImgLoadImageFromFile"),
        dict(type="rsfoundation.MultiImgLoadAnnotations"),
    ]
    return DATASETS.build(
        dict(
            type=f"rsfoundation.{preset}", data_root=str(root), pipeline=steps, img_suffix=".png",
            data_prefix=dict(img_path_from="A", img_path_to="B", seg_map_path="label"), **options,
        )
    )  # fmt: skip


# Formats


def test_layouts(tmp_path, monkeypatch):
    """A TIFF is the same with rasterio and without, whether in strips or tiles, by pixels or by planes, uncompressed, DEFLATE, LZW, ZSTD or PackBits."""  # noqa: E501
    rasterio = pytest.importorskip("rasterio")
    for compress in ("none", "deflate", "lzw", "zstd", "packbits"):
        for interleave in ("pixel", "band"):
            for tiles in ({}, dict(tiled=True, blockxsize=16, blockysize=16)):
                with rasterio.open(
                    tmp_path / "a.tif", "w", driver="GTiff", width=50, height=40, count=7, dtype="uint8",
                    compress=compress, interleave=interleave, **tiles,
                ) as raster:  # fmt: skip
                    raster.write(np.moveaxis(SEVEN, 2, 0))
                whole = RasterReader(tmp_path / "a.tif").read()
                assert np.array_equal(whole, SEVEN)
                with monkeypatch.context() as hidden:
                    hide_rasterio(hidden)
                    assert np.array_equal(RasterReader(tmp_path / "a.tif").read(), whole)


def test_only_rasterio(tmp_path, monkeypatch):
    """What only rasterio reads is an error that names the command to install it."""
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=50, height=40, count=7, dtype="float32",
        compress="lzw", predictor=3,
    ) as raster:  # fmt: skip
        raster.write(np.moveaxis(SEVEN, 2, 0).astype("float32"))
    hide_rasterio(monkeypatch)
    with pytest.raises(DataError) as caught:
        RasterReader(tmp_path / "a.tif")
    assert "pip install 'rsfoundation[geo]'" in caught.value.fix


def test_mmcv_step():
    """mmcv's `LoadImageFromFile` in a config is replaced by ours, which takes the same arguments."""
    step = dict(
        type="LoadImageFromFile",
        to_float32=True,
        color_type="color",
        imdecode_backend="cv2",
        ignore_empty=False,
    )
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=[step]))))
    use_image_loading(cfg)
    (ours,) = cfg.test_dataloader.dataset.pipeline
    assert (
        ours.pop("type") == "rsfoundation.LoadImageFromFile" and LoadImageFromFile(**ours).loading.to_float32
    )


def test_orientation(tmp_path):
    """A JPEG is turned by its exif orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", exif=exif.tobytes(), quality=100, subsampling=0)
    upright = np.rot90(COLOURS, -1).astype(int)
    assert np.abs(RasterReader(tmp_path / "a.jpg").read() - upright).max() < 30


def test_memory(tmp_path, monkeypatch):
    """An image that does not fit into the free memory is refused before it is decoded, with its size."""
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    monkeypatch.setattr(raster_formats, "_free_memory", lambda: 5_000)
    with pytest.raises(DataError, match="50 x 40 pixels"):
        ImageLoading().read(tmp_path / "a.png")


def test_large_plain_image(tmp_path, monkeypatch):
    """A plain image over 256 MB is read by windows where rasterio is installed."""
    pytest.importorskip("rasterio")
    from rsfoundation.io.rasters import DECODE_LIMIT

    assert DECODE_LIMIT == 256 * 2**20
    Image.fromarray(np.zeros((9500, 9500, 3), np.uint8)).save(tmp_path / "a.png", compress_level=1)
    assert RasterReader(tmp_path / "a.png").windowed
    hide_rasterio(monkeypatch)
    assert not RasterReader(tmp_path / "a.png").windowed


def test_colours_of_large_jpegs(tmp_path):
    """A JPEG with chroma at half size has slightly other colours when read by windows: GDAL decodes it."""
    pytest.importorskip("rasterio")
    stripes = np.repeat(np.array([[(200, 60, 60), (60, 60, 200)] * 8], np.uint8), 5, axis=1).repeat(
        64, axis=0
    )
    Image.fromarray(stripes).save(tmp_path / "a.jpg", quality=95, subsampling="4:2:0")
    whole = RasterReader(tmp_path / "a.jpg").read().astype(int)
    windows = RasterReader(tmp_path / "a.jpg", decode_limit=0).read()
    assert 0 < np.abs(whole - windows).max() < 64 and np.abs(whole - windows).mean() < 8


def test_broken(tmp_path, raster_library):
    """A broken image is an error with its file."""
    for name in ("a.tif", "a.png", "a.jpg"):
        (tmp_path / name).write_bytes(b"II*\0 broken")
        with pytest.raises(DataError) as caught:
            ImageLoading().read(tmp_path / name)
        assert caught.value.where.endswith(name)


# Bit depths


def test_eight_bits(tmp_path, raster_library):
    """8-bit values are taken as they are."""
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    for file in (write_tiff(tmp_path / "a.tif", COLOURS), tmp_path / "a.png"):
        assert np.array_equal(ImageLoading().read(file), COLOURS[..., ::-1])


def test_declared_range(tmp_path, raster_library):
    """Values of any type with a declared range are scaled so that its ends become 0 and 255, and clipped."""
    for dtype in ("uint8", "uint16", "int16", "int32", "float32", "float64"):
        file = write_tiff(tmp_path / "a.tif", np.array([[0, 20, 50, 80, 100]]).astype(dtype))
        found = ImageLoading((1,), PixelRange.parse((20, 80))).read(file)
        assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255], dtype


def test_one_range(tmp_path):
    """The range is the same in training, test and prediction, and never taken from one image or window."""
    cfg = load_config("quickstart/change_toy_lsknet_t", ["image_loading.pixel_range=[0,2040]"])
    use_image_loading(cfg)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[0].pixel_range == [0, 2040]
    dark, bright = np.full((40, 50), 80, np.uint16), np.full((40, 50), 1600, np.uint16)
    file = write_tiff(tmp_path / "a.tif", np.hstack([dark, bright]))
    image = loading_of(cfg).open(file)
    assert image.read(Window(0, 0, 9, 9)).max() == 10 and image.read(Window(60, 0, 9, 9)).min() == 200


def test_sixteen_bits(tmp_path, raster_library, warned):
    """16-bit values without a range are divided by 256 (int16: by 128, negative ones are 0), with a warning that names the values found."""  # noqa: E501
    values = np.array([[-300, 0, 700, 30000]])
    unsigned = write_tiff(tmp_path / "a.tif", np.maximum(values, 0).astype(np.uint16))
    assert ImageLoading().read(unsigned)[0, :, 0].tolist() == [0, 0, 2, 117]
    signed = write_tiff(tmp_path / "b.tif", values.astype(np.int16))
    assert ImageLoading().read(signed)[0, :, 0].tolist() == [0, 0, 5, 234]
    assert "uint16 from 0 to 30000" in warned[0] and "int16 from -300 to 30000" in warned[1]


def test_floats(tmp_path, raster_library):
    """Floating-point and 32-bit values without a range are an error that names the values found."""
    for dtype in ("float32", "float64", "int32", "uint32"):
        file = write_tiff(tmp_path / "a.tif", np.array([[3, 41]]).astype(dtype))
        with pytest.raises(DataError, match=f"{dtype} from 3 to 41"):
            ImageLoading().open(file)


def test_not_a_number(tmp_path, raster_library):
    """A value that is not a number becomes 0."""
    file = write_tiff(tmp_path / "a.tif", np.array([[np.nan, 0.5]], np.float32))
    assert ImageLoading(pixel_range=PixelRange.parse((-1, 1))).read(file)[0, :, 0].tolist() == [0, 191]


def test_native(tmp_path, raster_library):
    """With `pixel_range='native'` values and their type are those of the file."""
    values = SEVEN.astype(np.float32) / 7
    assert np.array_equal(ImageLoading("all", "native").read(write_tiff(tmp_path / "a.tif", values)), values)


# Bands


def test_first_three_bands(tmp_path, raster_library):
    """Of three and more bands the first three are red, green and blue, whatever its photometric tag."""
    for count in (3, 4, 7):
        for tag in ("rgb", "minisblack", "miniswhite"):
            file = write_tiff(tmp_path / "a.tif", SEVEN[..., :count], photometric=tag)
            assert np.array_equal(ImageLoading().read(file), SEVEN[..., 2::-1])


def test_one_band(tmp_path, raster_library):
    """One band is read three times, as grey."""
    file = write_tiff(tmp_path / "a.tif", COLOURS[..., 0])
    assert np.array_equal(ImageLoading().read(file), np.repeat(COLOURS[..., :1], 3, axis=2))


def test_other_bands_warn(tmp_path, raster_library, warned):
    """A file with other bands than one, three, or three and alpha is read with a warning that names the bands read."""  # noqa: E501
    for count, alpha in ((1, 0), (3, 0), (4, 2)):
        tags = dict(photometric="rgb") if count > 2 else {}
        ImageLoading().read(write_tiff(tmp_path / "a.tif", SEVEN[..., :count], alpha=alpha, **tags))
    assert not warned
    for count in (2, 4, 7):
        ImageLoading().read(write_tiff(tmp_path / "a.tif", SEVEN[..., :count]))
    assert [f"{count} bands" in text for count, text in zip((2, 4, 7), warned, strict=True)] == [True] * 3


def test_choice_of_bands(tmp_path, raster_library):
    """Bands are chosen by number, by description or by colour, in any order."""
    file = write_tiff(
        tmp_path / "a.tif", SEVEN, photometric="rgb", names=["", "", "", "nir", "swir1", "", ""]
    )
    assert np.array_equal(ImageLoading(("SWIR1", 7, "green", "nir")).read(file), SEVEN[..., [4, 6, 1, 3]])


def test_missing_band(tmp_path, raster_library):
    """A band that a file lacks is an error that lists the bands it has."""
    with pytest.raises(DataError, match=r"no band 'nir'; its bands are 1 'red', 2 'green', 3 'blue'"):
        ImageLoading(("nir",)).open(write_tiff(tmp_path / "a.tif", COLOURS, photometric="rgb"))


def test_order_of_bands(tmp_path, raster_library):
    """Three chosen bands come as blue, green, red in pipelines, other numbers of bands in the order chosen."""  # noqa: E501
    file = write_tiff(tmp_path / "a.tif", SEVEN)
    assert np.array_equal(ImageLoading((6, 4, 1)).read(file), SEVEN[..., [0, 3, 5]])
    assert np.array_equal(ImageLoading((6, 4)).read(file), SEVEN[..., [5, 3]])


def test_wrong_number_of_bands():
    """A model of three bands refuses images of another number with the fix."""
    import torch

    model = SegDataPreProcessor(mean=[0.0] * 3, std=[1.0] * 3)
    with pytest.raises(ConfigError, match=r"7 bands.* have 3") as caught:
        model(dict(inputs=[torch.zeros(7, 4, 4)]))
    assert "image_loading=dict(bands=(...))" in caught.value.fix


def test_pictures(tmp_path, raster_library, monkeypatch):
    """Pictures of validation and test are drawn for any number of bands and any type; one that cannot be drawn costs a warning."""  # noqa: E501
    from types import SimpleNamespace

    written, said = [], []
    monkeypatch.setattr(
        "rsfoundation.engine.run_hooks.write_rgb", lambda file, picture: written.append(picture)
    )
    files = [
        write_tiff(tmp_path / "a.tif", SEVEN.astype(np.uint16)),
        write_tiff(tmp_path / "b.tif", SEVEN[..., :2].astype(np.float32)),
        tmp_path / "gone.tif",
    ]

    class Task:
        def image_paths(self, sample):
            return [str(sample)]

        def read_region(self, sample):
            return None

        def draw_comparison(self, images, sample, classes):
            return images[0]

    runner = SimpleNamespace(
        work_dir=tmp_path, iter=0, logger=SimpleNamespace(warning=said.append),
        visualizer=SimpleNamespace(_vis_backends={}),
        val_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=META)),
    )  # fmt: skip
    hook = PictureHook(Task())
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, outputs=files)
    assert [picture.shape for picture in written] == [(40, 50, 3)] * 2 and "gone" in said[0]


def test_unchanged(tmp_path, raster_library):
    """`color_type='unchanged'` reads every band with the values of the file."""
    file = write_tiff(tmp_path / "a.tif", SEVEN.astype(np.int16) * 9)
    loaded = LoadImageFromFile(color_type="unchanged")(dict(img_path=str(file)))["img"]
    assert loaded.dtype == np.int16 and np.array_equal(loaded, SEVEN.astype(np.int16) * 9)


# Alpha and missing pixels


def test_alpha_multiplies_nothing(tmp_path, raster_library):
    """An alpha band is never multiplied into colours."""
    for dtype in ("uint8", "uint16"):
        for kind in (1, 2):  # associated and unassociated
            four = np.dstack([COLOURS, np.full((40, 50), 77)]).astype(dtype)
            found = RasterReader(write_tiff(tmp_path / "a.tif", four, photometric="rgb", alpha=kind)).read()
            assert np.array_equal(found, COLOURS)
    Image.fromarray(four.astype(np.uint8)).save(tmp_path / "a.png")
    assert np.array_equal(ImageLoading().read(tmp_path / "a.png"), COLOURS[..., ::-1])


def test_alpha_is_a_mask(tmp_path, raster_library):
    """Pixels whose alpha is 0 are missing; an alpha band that is chosen as a band masks nothing."""
    four = np.dstack([COLOURS, CHANGED * 77])
    file = write_tiff(tmp_path / "a.tif", four, photometric="rgb", alpha=2)
    assert np.array_equal(RasterReader(file).valid_mask(), CHANGED == 1)
    assert RasterReader(file, (4, 1)).valid_mask().all()


def test_nodata(tmp_path, raster_library):
    """Pixels are missing where every band read has the declared nodata value."""
    values = np.maximum(COLOURS, 1)
    values[:4], values[5, 5, 0] = 0, 0
    raster = RasterReader(write_tiff(tmp_path / "a.tif", values, nodata=0))
    assert not raster.valid_mask()[:4].any() and raster.valid_mask()[4:].all()


def test_masks_of_rasters(tmp_path, raster_library):
    """A mask inside a TIFF or in a `.msk` file next to it marks missing pixels."""
    import tifffile

    file = tmp_path / "a.tif"
    with tifffile.TiffWriter(file) as made:
        made.write(COLOURS, photometric="rgb", metadata=None)
        made.write(CHANGED == 1, photometric="mask", subfiletype=4, metadata=None)
    assert np.array_equal(RasterReader(file).valid_mask(), CHANGED == 1)
    outside = write_tiff(tmp_path / "b.tif", COLOURS)
    tifffile.imwrite(tmp_path / "b.tif.msk", CHANGED * 255, photometric="minisblack", metadata=None)
    if raster_library == "rasterio":
        rasterio = pytest.importorskip("rasterio")
        with rasterio.open(outside, "r+") as raster:
            raster.write_mask(CHANGED == 1)
    assert np.array_equal(RasterReader(outside).valid_mask(), CHANGED == 1)


# Palettes


def test_palette_png(tmp_path):
    """A PNG with a palette is read in its colours."""
    picture = Image.fromarray(COLOURS).quantize(7)
    picture.save(tmp_path / "a.png")
    assert np.array_equal(
        ImageLoading().read(tmp_path / "a.png"), np.asarray(picture.convert("RGB"))[..., ::-1]
    )


def test_palette_tiff(tmp_path, raster_library):
    """A TIFF with a palette is refused as an image, with the command that writes its colours."""
    Image.fromarray(COLOURS).quantize(7).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="palette indices") as caught:
        ImageLoading().open(tmp_path / "a.tif")
    assert "gdal_translate -expand rgb" in caught.value.fix


def test_palette_mask(tmp_path, raster_library):
    """A mask with a palette is read by colour where all colours used are the data set's, and by number otherwise."""  # noqa: E501
    picture = Image.fromarray(2 - LABELS)
    picture.putpalette([channel for colour in PALETTE[::-1] for channel in colour])
    for name in ("a.png", "a.tif"):
        picture.save(tmp_path / name)
        assert np.array_equal(decode_mask(read_label_image(tmp_path / name), PALETTE)[0], LABELS)
    picture.putpalette([1, 2, 3] * 3)
    picture.save(tmp_path / "b.png")
    assert np.array_equal(decode_mask(read_label_image(tmp_path / "b.png"), PALETTE)[0], 2 - LABELS)


# Masks


def test_index_masks(tmp_path):
    """A mask of one band holds class indices, and 255 is ignored."""
    mask = LABELS.copy()
    mask[0] = 255
    assert np.array_equal(masks(tmp_path, mask)[0]["gt_seg_map"], mask)


def test_colour_masks(tmp_path, raster_library):
    """A mask of three bands and more holds colours of the data set's palette."""
    colours = np.array(PALETTE, np.uint8)[LABELS]
    for values in (colours, np.dstack([colours, CHANGED])):
        for tag in ("rgb", "minisblack"):
            image = read_label_image(write_tiff(tmp_path / "a.tif", values, photometric=tag))
            assert np.array_equal(decode_mask(image, PALETTE)[0], LABELS)


def test_number_types(tmp_path, raster_library):
    """Whole numbers of any type are class indices, also floating-point ones."""
    for dtype in ("uint8", "int8", "uint16", "int32", "float32", "float64"):
        image = read_label_image(write_tiff(tmp_path / "a.tif", LABELS.astype(dtype)))
        assert np.array_equal(decode_mask(image, PALETTE)[0], LABELS), dtype


def test_label_map(tmp_path):
    """`label_map={255: 1}` in the data set gives numbers of the files a class."""
    data = masks(tmp_path, CHANGED * 255, meta=TWO, label_map={255: 1})
    assert np.array_equal(data[0]["gt_seg_map"], CHANGED)


def test_reduce_zero_label(tmp_path):
    """`reduce_zero_label=True` is the fix that is named where the one unknown number is the number of classes."""  # noqa: E501
    with pytest.raises(DataError) as caught:
        masks(tmp_path, LABELS + 1)
    assert "reduce_zero_label=True" in caught.value.fix
    assert np.array_equal(masks(tmp_path, LABELS + 1, reduce_zero_label=True)[0]["gt_seg_map"], LABELS)


def test_unknown_labels(tmp_path):
    """Numbers and colours of no class stop before the first step, or are ignored with `off_palette='ignore'`."""  # noqa: E501
    ignoring = [MASKS[0], dict(MASKS[1], off_palette="ignore")]
    for index, mask in enumerate((LABELS * 4, np.array(PALETTE, np.uint8)[LABELS] + 1)):
        image = Image.new("RGB", (50, 40))
        with pytest.raises(DataError, match="carry no known label"):
            masks(tmp_path / str(index), mask, image=image)
        data = masks(tmp_path / str(index), pipeline=ignoring)
        assert (data[0]["gt_seg_map"] == 255).sum() >= (LABELS > 0).sum()


def test_only_255(tmp_path):
    """Masks of one class and 255 stop before the first step, with the setting that reads them."""
    with pytest.raises(DataError, match="'roof' occurs in none of 1 label maps") as caught:
        masks(tmp_path, CHANGED * 255, meta=TWO)
    assert "label_map={255: 1}" in caught.value.fix


def test_absent_class(tmp_path):
    """A class that occurs in no mask read before training is a warning."""
    assert masks(tmp_path, CHANGED).report.warnings == ["'water' in none of 1 label maps that were read"]


def test_mask_size(tmp_path):
    """A mask of another size than its image is an error."""
    with pytest.raises(DataError, match="the mask is 50x40, its image 7x7 pixels"):
        masks(tmp_path, LABELS, image=Image.new("RGB", (7, 7)))[0]


def test_masks_read_at_the_start(tmp_path, monkeypatch):
    """Before the first step masks from all over the data set are read, up to 64 million pixels; `on_error='skip'` reads all and leaves broken ones out."""  # noqa: E501
    assert label_check._PIXELS == 64e6
    monkeypatch.setattr(label_check, "_PIXELS", 3 * LABELS.size)
    good = [LABELS] * 9
    assert len(masks(tmp_path / "a", *good, LABELS * 0)) == 10
    masks(tmp_path / "b", *good)
    (tmp_path / "b/mask/02.png").write_bytes(b"broken")
    assert len(masks(tmp_path / "b")) == 9, "not among the first, the middle and the last"
    skipping = masks(tmp_path / "b", on_error="skip")
    assert len(skipping) == 8 and skipping.report.counts == {"label maps that cannot be used": 1}


# Change


def test_spellings_of_change(tmp_path, raster_library):
    """Change is 0 and 1, 0 and 255, whole floats, or colours on black, under every data set with `format_seg_map='to_binary'`."""  # noqa: E501
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[CHANGED * LABELS]
    for preset in ("LEVIR_CD_Dataset", "S2Looking_Dataset", "CLCD_Dataset", "JL1_CD_Dataset"):
        for label in (CHANGED, CHANGED * 255, colours):
            found = changes(tmp_path, preset, label)[0]["gt_seg_map"]
            assert np.array_equal(found, CHANGED), preset
    floats = write_tiff(tmp_path / "a.tif", CHANGED.astype(np.float32))
    assert np.array_equal(decode_change(read_label_image(floats)), CHANGED)


def test_jpeg_change(tmp_path):
    """JPEG labels count as changed from grey 128 on."""
    ramp = np.repeat(np.arange(0, 256, 8, dtype=np.uint8), 8)[None].repeat(8, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.jpg", quality=100)
    decoded = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert np.array_equal(decode_change(read_label_image(tmp_path / "a.jpg")), decoded >= 128)


def test_indices_of_0_and_255(tmp_path):
    """Labels of class indices (`format_seg_map=None`) of 0 and 255 alone stop with the setting that reads them."""  # noqa: E501
    for preset in ("DSIFN_Dataset", "RSIPAC_CD_Dataset"):
        with pytest.raises(DataError, match="'changed' occurs in none") as caught:
            changes(tmp_path, preset, CHANGED * 255)
        assert "format_seg_map='to_binary'" in caught.value.fix


def test_other_change(tmp_path):
    """Other values are an error with the file, the values found and the values expected."""
    with pytest.raises(DataError, match="holds 0, 7; expected 0 and 1, 0 and 255, or colours") as caught:
        changes(tmp_path, "LEVIR_CD_Dataset", CHANGED * 7)
    assert caught.value.where.endswith("a.png")
    with pytest.raises(DataError, match=r"first: 7 .*known are 0\.\.1 and 255") as caught:
        changes(tmp_path, "DSIFN_Dataset", CHANGED * 7)
    assert caught.value.where.endswith("a.png")


# Ids


def coco(root, change):
    record = coco_files.content()
    change(record)
    coco_files.write(root, record)
    return CocoInstanceDataset(
        data_root=str(root), ann_file="labels.json", data_prefix=dict(img="images/"),
        metainfo=dict(classes=coco_files.CLASSES), pipeline=[],
    )  # fmt: skip


def test_id_0(tmp_path):
    """Annotations are numbered anew, so that an id 0 counts as any other."""
    from rsfoundation.core.reports import DatasetReport
    from rsfoundation.io.coco import read_coco

    record = coco_files.content()
    coco_files.count_from_zero(record)
    (tmp_path / "a.json").write_text(json.dumps(record))
    numbers = [item["id"] for item in read_coco(tmp_path / "a.json", DatasetReport())["annotations"]]
    assert min(numbers) > 0 and len(set(numbers)) == 9


def test_one_id_twice(tmp_path):
    """Two annotations of one id stay two, and are counted in the report."""
    data = coco(tmp_path, lambda record: record["annotations"][1].update(id=1))
    assert sum(len(data.get_data_info(row)["instances"]) for row in range(3)) == 9
    assert any("id" in kind for kind in data.report.counts)


def test_text_ids(tmp_path):
    """Ids written as text in one place and as numbers in another are an error."""
    with pytest.raises(DataError, match="write both as whole numbers"):
        coco(tmp_path, coco_files.text_ids)
