"""Rasters of every kind in training, test and prediction: the same pixels, the same numbers."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from raster_files import write_tiff

from rsfoundation.cli import main
from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel

SIDE = 64
SMALL = ["train_dataloader.batch_size=2", "train_cfg.max_epochs=1", "train_cfg.val_interval=1"]


def scene(seed):
    """A dark scene with a bright square, as 8-bit colours and labels."""
    rng = np.random.default_rng(seed)
    image = rng.integers(40, 90, (SIDE, SIDE, 3), dtype=np.uint8)
    label = np.zeros((SIDE, SIDE), np.uint8)
    y, x = rng.integers(4, SIDE - 30, 2)
    image[y : y + 24, x : x + 24] += 150
    label[y : y + 24, x : x + 24] = 1
    return image, label


def segmentation(root, write, **keys):
    """The quickstart with two classes, on images that ``write(path, colours)`` writes."""
    for split, seeds in (("train", range(4)), ("val", range(4, 6))):
        for seed in seeds:
            image, label = scene(seed)
            write(root / "img_dir" / split / f"{seed}.tif", image)
            (root / "label_dir" / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(label).save(root / "label_dir" / split / f"{seed}.png")
    meta = dict(classes=("ground", "roof"), palette=[[0, 0, 0], [255, 255, 255]])
    data = dict(type="rsfoundation.MaskDataset", data_root=str(root), metainfo=meta, img_suffix=".tif")
    cfg = load_config("quickstart/segmentation_toy_lsknet_t", SMALL)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(data)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.update(num_classes=2)
        head.loss_decode.class_weight = [1.0, 1.0]
    cfg.train_dataloader.dataset.pipeline[2].crop_size = (SIDE, SIDE)
    cfg.merge_from_dict(keys)
    return cfg


def change(root, write, **keys):
    """The quickstart on pairs that ``write(path, colours)`` writes; the square of the second date is new."""
    for split, seeds in (("train", range(4)), ("val", range(4, 6))):
        for seed in seeds:
            image, label = scene(seed)
            before = np.where(label[..., None] == 1, image - 150, image).astype(np.uint8)
            write(root / split / "A" / f"{seed}.tif", before)
            write(root / split / "B" / f"{seed}.tif", image)
            (root / split / "label").mkdir(exist_ok=True)
            Image.fromarray(label * 255).save(root / split / "label" / f"{seed}.png")
    cfg = load_config("quickstart/change_toy_lsknet_t", SMALL)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(data_root=str(root), img_suffix=".tif")
    cfg.train_dataloader.dataset.pipeline[2].crop_size = (SIDE, SIDE)
    cfg.merge_from_dict(keys)
    return cfg


def run(cfg, folder):
    """Train and test; return the metrics of the test."""
    options = RunOptions(work_dir=folder, device="cpu")
    trained = train(cfg, options)
    tested = run_test(cfg, folder, options)
    assert tested.metrics == trained.metrics
    return tested


def agree(model):
    """Whether prediction of each test image, whole and by windows, is what the test measures."""
    init_default_scope(model.cfg.default_scope)
    dataset = DATASETS.build(model.cfg.test_dataloader.dataset)
    dates = model.scenes.images_per_scene
    for index in range(len(dataset)):
        packed = dataset[index]
        paths = packed["data_samples"].img_path
        crops = [model.loading.open(path).read() for path in (paths if dates > 1 else [paths])]
        (predicted,) = model.predict([crops])
        tested = model.network.test_step(pseudo_collate([packed]))[0]
        if "pred_sem_seg" in tested:
            same = bool((predicted.pred_sem_seg.data == tested.pred_sem_seg.data).all())
        else:
            same = np.array_equal(predicted.pred_instances.scores, tested.pred_instances.scores)
        if not same or not np.array_equal(
            packed["inputs"], model.pipeline(model.scenes.window_input(crops))["inputs"]
        ):
            return False
    return True


KINDS = {
    "8 bit, infrared marked as alpha": dict(alpha=2, photometric="rgb", count=4),
    "8 bit, 3 bands called grey": dict(count=3),
    "11 bit, 4 bands called grey": dict(factor=8, dtype="uint16", count=4),
    "int16 with an offset": dict(factor=8, offset=-500, dtype="int16", photometric="rgb", count=3),
    "reflectances, planes": dict(factor=16, offset=1000, dtype="uint16", count=4, planar=True, tile=(16, 16)),
}


def writer(count=3, factor=1, offset=0, dtype="uint8", **options):
    def write(path, colours):
        bands = np.dstack([colours] + [np.full(colours.shape[:2], 77)] * (count - 3)).astype(np.int64)
        write_tiff(path, (bands * factor + offset).astype(dtype), **options)

    return write


def loading(kind):
    low, factor = kind.get("offset", 0), kind.get("factor", 1)
    return {} if factor == 1 else {"image_loading": dict(pixel_range=(low, 255 * factor + low))}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Runs on ordinary 8-bit colours: the numbers to reach."""
    root = tmp_path_factory.mktemp("plain")
    write = writer(photometric="rgb")
    return {
        "segmentation": run(segmentation(root / "seg", write), root / "seg_run").metrics,
        "change": run(change(root / "cd", write), root / "cd_run").metrics,
        "root": root,
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "change"])
def test_training_on_eleven_bits_equals_training_on_eight(tmp_path, plain, task):
    made = segmentation if task == "segmentation" else change
    options = KINDS["11 bit, 4 bands called grey"]
    result = run(made(tmp_path / "data", writer(**options), **loading(options)), tmp_path / "run")
    assert result.metrics == plain[task]
    assert len(list((tmp_path / "run/pictures/test").glob("*.png"))) == 2


@pytest.mark.parametrize("task", ["segmentation", "change"])
def test_one_checkpoint_measures_and_predicts_every_kind_of_tiff_alike(tmp_path, plain, raster_library, task):
    """The same scenes in other files: `rsf test` once gave 0.0195 where `rsf predict` gave 0.8415."""
    made, trained = (segmentation, "seg_run") if task == "segmentation" else (change, "cd_run")
    for number, (kind, options) in enumerate(KINDS.items()):
        cfg = made(tmp_path / str(number), writer(**options), **loading(options))
        tested = run_test(
            cfg, plain["root"] / trained, RunOptions(work_dir=tmp_path / "t", device="cpu"), pictures=0
        )
        assert tested.metrics == plain[task], kind
        config = tmp_path / f"{number}.py"
        cfg.dump(config)
        assert agree(WindowModel(plain["root"] / trained, config, device="cpu")), kind


def seven(path, colours):
    write_tiff(
        path, np.dstack([colours, colours, colours[..., :1]]).astype(np.uint16) * 8, names=list("abcdefg")
    )


def normalised(bands):
    return {"model.data_preprocessor.mean": [110.0] * bands, "model.data_preprocessor.std": [60.0] * bands}


@pytest.mark.parametrize("bands", [("g", "b", 3, 4, 5, 6, 1), pytest.param((1, 7), marks=pytest.mark.slow)])
def test_segmentation_of_any_bands(tmp_path, bands):
    count = len(bands)
    keys = {"image_loading": dict(bands=bands, pixel_range=(0, 2040)), "model.backbone.in_channels": count}
    run(segmentation(tmp_path / "data", seven, **keys, **normalised(count)), tmp_path / "run")
    assert len(list((tmp_path / "run/pictures/val").glob("*.png"))) == 2, "any number of bands is drawn"
    assert agree(WindowModel(tmp_path / "run", device="cpu"))


def test_change_of_seven_bands_as_tifffile_reads_them(tmp_path):
    """A config that reads through mmcv's tifffile decoder: values of the file, bands in their order."""
    seven_in = {"model.backbone_inchannels": 7, "model.backbone.in_channels": 7}
    keys = {**seven_in, **normalised(14), "model.data_preprocessor.bgr_to_rgb": False}
    cfg = change(tmp_path / "data", seven, **keys)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline[0].update(color_type="unchanged", imdecode_backend="tifffile")
    run(cfg, tmp_path / "run")
    model = WindowModel(tmp_path / "run", device="cpu")
    assert model.loading.open(tmp_path / "data/val/A/4.tif").read().dtype == np.uint16 and agree(model)


def test_a_three_band_model_refuses_seven_bands_with_the_fix(tmp_path):
    cfg = segmentation(tmp_path / "data", seven, image_loading=dict(bands="all", pixel_range=(0, 2040)))
    with pytest.raises(ConfigError, match="7 bands, and the model's mean and std have 3") as caught:
        train(cfg, RunOptions(work_dir=tmp_path / "run", device="cpu"))
    assert "in_channels for 7" in caught.value.fix


def test_samples_of_any_bands_are_browsed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"image_loading": dict(bands="all", pixel_range=(0, 2040))}
    segmentation(tmp_path / "seg", seven, **keys).dump("seg.py")
    change(tmp_path / "cd", seven, **keys).dump("cd.py")
    for name in ("seg", "cd"):
        with pytest.raises(SystemExit, match="0"):
            main(["browse", f"{name}.py", "-n", "2", "-o", name + "_out"])
        assert len(list((tmp_path / f"{name}_out").glob("*.png"))) == 2


def test_range_and_bands_are_options_of_the_console(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    segmentation(tmp_path / "data", seven).dump("seg.py")
    words = ["--pixel-range", "0,2040", "--bands", "3,2,1", "--device", "cpu"]
    with pytest.raises(SystemExit, match="0"):
        main(["train", "seg.py", *words, "--work-dir", "run"])
    recorded = Config.fromfile("run/config.py")
    assert recorded.image_loading == dict(pixel_range=[0, 2040], bands=[3, 2, 1])
    for loader in (recorded.train_dataloader, recorded.test_dataloader):
        assert loader.dataset.pipeline[0].pixel_range == [0, 2040]
    model = WindowModel("run", device="cpu")
    image, _ = scene(4)
    found = model.loading.open("data/img_dir/val/4.tif").read()
    assert np.array_equal(found, image), "blue comes first in the array, and band 1 is asked for as blue"
    assert "no value range" not in capsys.readouterr().err


@pytest.mark.parametrize("task", ["detection", "instance"])
def test_detection_and_instances_read_the_whole_matrix_alike(tmp_path, raster_library, task):
    """What the test pipeline and prediction make of one file, for each of the tags that GDAL writes."""
    from mmengine.dataset import Compose

    from rsfoundation.engine.config import build_task
    from rsfoundation.engine.resolve_config import loading_of, resolve_config

    image, _ = scene(1)
    for kind, options in KINDS.items():
        file = tmp_path / "a.tif"
        writer(**options)(file, image)
        cfg = load_config(f"quickstart/{task}_toy_lsknet_t")
        cfg.merge_from_dict(loading(options))
        cfg = resolve_config(cfg, RunOptions(), build_task(cfg)).cfg
        init_default_scope(cfg.default_scope)
        step = Compose(cfg.test_dataloader.dataset.pipeline[:1])
        tested = step(dict(img_path=str(file)))["img"]
        assert np.array_equal(tested, image[..., ::-1]), kind
        assert np.array_equal(loading_of(cfg).open(file).read(), tested), kind
