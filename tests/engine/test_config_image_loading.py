"""One decoder in every pipeline of a config, with the bands and the range that the config names."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from raster_files import write_tiff

from rsfoundation.core.errors import ConfigError
from rsfoundation.datasets.transforms.images import LoadImageFromFile
from rsfoundation.engine.config import build_task, load_config
from rsfoundation.engine.resolve_config import RunOptions, loading_of, resolve_config, use_image_loading
from rsfoundation.io.loading import ImageLoading, PixelRange

SCOPED = ("LoadImageFromFile", "mmcv.LoadImageFromFile", "mmseg.LoadImageFromFile", "mmdet.LoadImageFromFile")


def config(step, **keys):
    steps = [dict(step), dict(type="PackSegInputs")]
    wrapped = dict(type="ConcatDataset", datasets=[dict(type="MaskDataset", pipeline=steps)])
    return Config(
        dict(
            model=dict(data_preprocessor=dict(type="SegDataPreProcessor", mean=[1.0] * 3, std=[2.0] * 3)),
            train_dataloader=dict(dataset=wrapped),
            tta_pipeline=[dict(step)],
            **keys,
        )
    )


@pytest.mark.parametrize("name", SCOPED)
def test_mmcvs_loading_step_becomes_ours_everywhere(name):
    cfg = config(dict(type=name, to_float32=True, file_client_args=dict(backend="disk")))
    (note,) = use_image_loading(cfg)
    assert "2 steps" in note
    ours = dict(type="rsfoundation.LoadImageFromFile", to_float32=True)
    assert cfg.train_dataloader.dataset.datasets[0].pipeline[0] == ours and cfg.tta_pipeline[0] == ours
    assert cfg.train_dataloader.dataset.datasets[0].pipeline[1].type == "PackSegInputs"
    assert use_image_loading(cfg) == []


def test_bands_and_range_of_the_config_reach_every_step():
    cfg = config(
        dict(type="rsfoundation.MultiImgLoadImageFromFile", bands=(1, 2, 3)),
        image_loading=dict(bands=(4, "nir"), pixel_range=(0, 2047)),
    )
    use_image_loading(cfg)
    for step in (cfg.train_dataloader.dataset.datasets[0].pipeline[0], cfg.tta_pipeline[0]):
        assert step.bands == (4, "nir") and step.pixel_range == (0, 2047)
    assert cfg.model.data_preprocessor.type == "rsfoundation.SegDataPreProcessor"
    cfg.test_dataloader = cfg.train_dataloader
    assert loading_of(cfg) == ImageLoading((4, "nir"), PixelRange((0.0,), (2047.0,)))
    assert loading_of(cfg, "red, 2", "5,9") == ImageLoading(("red", 2), PixelRange((5.0,), (9.0,)))
    assert loading_of(cfg, "all", "native") == ImageLoading("all", "native")
    assert loading_of(Config(dict(test_dataloader=dict()))) == ImageLoading()


@pytest.mark.parametrize("wrong", ["", "1,,2", (), (1.5,), [None]])
def test_bands_that_cannot_be_understood(wrong):
    with pytest.raises(ConfigError, match="bands is"):
        LoadImageFromFile(bands=wrong)


@pytest.mark.parametrize(("backend", "first"), [("cv2", [2, 1, 0, 3]), ("tifffile", [0, 1, 2, 3])])
def test_unchanged_images_keep_values_and_the_order_of_mmcvs_decoder(tmp_path, backend, first):
    values = np.random.default_rng(0).integers(0, 60000, (8, 9, 7)).astype(np.uint16)
    loader = LoadImageFromFile(color_type="unchanged", imdecode_backend=backend)
    seven = loader(dict(img_path=str(write_tiff(tmp_path / "a.tif", values))))["img"]
    assert seven.dtype == np.uint16 and np.array_equal(seven, values)
    four = loader(dict(img_path=str(write_tiff(tmp_path / "b.tif", values[..., :4], alpha=2))))["img"]
    assert np.array_equal(four, values[..., first]), "an alpha band is a band then"


def test_grey_images_are_those_of_mmcv_but_for_rounding(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, colours)
    grey = LoadImageFromFile(color_type="grayscale")(dict(img_path=path))["img"]
    mmcvs = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    assert grey.shape[2] == 1 and np.abs(grey[..., 0].astype(int) - mmcvs).max() <= 1


def test_an_image_that_cannot_be_read_is_left_out_where_asked(tmp_path):
    assert LoadImageFromFile(ignore_empty=True)(dict(img_path=str(tmp_path / "a.png"))) is None


def test_preprocessors_are_exchanged_only_where_bands_may_differ():
    plain = config(dict(type="rsfoundation.LoadImageFromFile"))
    use_image_loading(plain)
    assert plain.model.data_preprocessor.type == "SegDataPreProcessor"
    wide = config(dict(type="rsfoundation.LoadImageFromFile"))
    wide.model.data_preprocessor.update(type="mmdet.DetDataPreprocessor", mean=[0.0] * 5, std=[1.0] * 5)
    use_image_loading(wide)
    assert wide.model.data_preprocessor.type == "rsfoundation.DetDataPreprocessor"


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ConfigError, match="image_loading has no 'band'"):
        use_image_loading(config(dict(type="LoadImageFromFile"), image_loading=dict(band=(1,))))


@pytest.mark.parametrize(
    "name",
    ["segmentation_toy_lsknet_t", "change_toy_lsknet_t", "detection_toy_lsknet_t", "instance_toy_lsknet_t"],
)
def test_a_resolved_config_of_every_task_reads_alike_in_training_and_test(tmp_path, raster_library, name):
    """11-bit values: the same array in training and test, and that of the same image in 8 bit."""
    cfg = load_config(f"quickstart/{name}", ["image_loading.pixel_range=[0,2040]"])
    cfg = resolve_config(cfg, RunOptions(), build_task(cfg)).cfg
    init_default_scope(cfg.default_scope)
    colours = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    wide = np.dstack([colours.astype(np.uint16) * 8, np.full((30, 40), 77, np.uint16)])
    file = str(write_tiff(tmp_path / "a.tif", wide, photometric="rgb", alpha=2))
    path = [file, file] if "change" in name else file
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        pipeline = loader.dataset.pipeline
        image = Compose([pipeline[0]])(dict(img_path=path))["img"]
        for date in image if isinstance(image, list) else [image]:
            assert np.array_equal(date, colours[..., ::-1])
    assert loading_of(cfg).pixel_range == PixelRange((0.0,), (2040.0,))


def test_loaders_without_workers_lose_the_options_of_workers():
    cfg = load_config("lsknet_s_oriented_rcnn_1x_dota_ss", ["train_dataloader.num_workers=0"])
    cfg.val_dataloader.update(num_workers=0, prefetch_factor=4)
    task = build_task(cfg)
    resolved = resolve_config(cfg, RunOptions(), task).cfg
    assert not {"persistent_workers", "prefetch_factor"} & set(resolved.train_dataloader)
    assert not {"persistent_workers", "prefetch_factor"} & set(resolved.val_dataloader)
    assert resolved.test_dataloader.persistent_workers and resolved.test_dataloader.num_workers
