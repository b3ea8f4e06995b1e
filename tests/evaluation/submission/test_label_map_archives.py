"""Archives of LoveDA and UAVid: written from predictions, and refused for what their servers refuse."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from rsfoundation.cli import main
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.task import RunRequest
from rsfoundation.datasets.segmentation import LoveDADataset, UAVidDataset
from rsfoundation.engine.config import load_config
from rsfoundation.evaluation.submission.check import check_submission
from rsfoundation.evaluation.submission.label_maps import LabelMapSubmission, check_label_maps
from rsfoundation.tasks.segmentation import SemanticSegmentation

DATA = {"loveda": LoveDADataset, "uavid": UAVidDataset}


def submit(out, server, paths, labels):
    metric = LabelMapSubmission(str(out))
    metric.dataset_meta = DATA[server].METAINFO
    samples = [
        dict(img_path=str(path), pred_sem_seg=dict(data=torch.from_numpy(labels[None]))) for path in paths
    ]
    metric.process(None, samples)
    found = metric.evaluate(len(samples))
    return metric, found


def test_loveda_gets_numbers_in_one_folder(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 7
    paths = [
        tmp_path / "Test" / kind / "images_png" / f"{n}.png" for n, kind in ((4191, "Rural"), (4192, "Urban"))
    ]
    metric, found = submit(tmp_path / "out", "loveda", paths, labels)
    assert found == {"submission/images": 2.0} and metric.archive.files == 2
    with zipfile.ZipFile(metric.archive.path) as archive:
        assert archive.namelist() == ["4191.png", "4192.png"]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(archive.read("4192.png")))), labels)


def test_uavid_gets_colours_in_the_tree_of_its_frames(tmp_path):
    labels = np.arange(8, dtype=np.uint8).reshape(2, 4)
    paths = [tmp_path / "uavid_test" / f"seq{n}" / "Images" / "000000.png" for n in (21, 22)]
    metric, _ = submit(tmp_path / "out", "uavid", paths, labels)
    with zipfile.ZipFile(metric.archive.path) as archive:
        assert archive.namelist() == ["seq21/Labels/000000.png", "seq22/Labels/000000.png"]
        colours = np.asarray(Image.open(io.BytesIO(archive.read("seq22/Labels/000000.png"))))
    assert colours.reshape(-1, 3).tolist() == UAVidDataset.METAINFO["palette"]


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


GREY, COLOUR = png(np.zeros((4, 5))), png(np.zeros((4, 5, 3)))


@pytest.mark.parametrize(
    ("server", "files", "message"),
    [
        ("loveda", {}, "holds no file"),
        ("loveda", {"1.png": GREY, "a.txt": b""}, "not named as the server expects"),
        ("loveda", {"a/1.png": GREY, "b/2.png": GREY}, "in 2 folders"),
        ("loveda", {"1.png": COLOUR, "2.png": GREY}, "expected PNG of kind L"),
        ("loveda", {"1.png": png(np.full((4, 5), 7)), "2.png": GREY}, r"holds 7; expected 0"),
        ("loveda", {"1.png": b"broken", "2.png": GREY}, "cannot be read"),
        ("loveda", {"1.png": GREY}, "1 of 2 label maps are missing, first: 2.png"),
        ("loveda", {"1.png": GREY, "2.png": GREY, "3.png": GREY}, "1 belong to no test image, first: 3.png"),
        ("loveda", {"1.png": png(np.zeros((5, 5))), "2.png": GREY}, "is 5x5, its image 5x4"),
        ("uavid", {"000000.png": COLOUR}, "seq21/Labels/000000.png"),
        ("uavid", {"seq21/Labels/000000.png": GREY}, "expected PNG of kind RGB"),
        ("uavid", {"seq21/Labels/000000.png": png(np.full((4, 5, 3), 9))}, r"\(9, 9, 9\) is of no class"),
    ],
)
def test_what_a_server_refuses_is_found(tmp_path, server, files, message):
    path = tmp_path / "results.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    sizes = {"1.png": (5, 4), "2.png": (5, 4)} if server == "loveda" else {"seq21/Labels/000000.png": (5, 4)}
    with pytest.raises(DataError, match=message) as caught:
        check_label_maps(path, server, sizes)
    assert "results.zip" in str(caught.value.where) and caught.value.fix


TREES = {
    "loveda": ("Test/{}/images_png/{}.png", (("Rural", "1"), ("Urban", "2")), "{1}.png"),
    "uavid": (
        "uavid_test/{}/Images/{}.png",
        (("seq21", "000000"), ("seq22", "000000")),
        "{0}/Labels/{1}.png",
    ),
}


def archive_and_images(folder, server, names=slice(None), content=None):
    """An archive of label maps, and the test images that they are of."""
    tree, images, form = TREES[server]
    for image in images:
        file = folder / tree.format(*image)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4)).save(file)
    path = folder / "maps.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for image in images[names]:
            archive.writestr(form.format(*image), content or {"loveda": GREY, "uavid": COLOUR}[server])
    return path, folder / tree.split("/")[0]


@pytest.mark.parametrize("server", TREES)
def test_any_archive_is_checked_against_the_images_of_its_server(tmp_path, server):
    path, images = archive_and_images(tmp_path, server)
    for folder in (None, images):
        found = check_submission(path, folder)
        assert (found.kind.lower(), found.files, found.images, found.detections) == (server, 2, 2, None)
        assert not found.problem_count
    path, images = archive_and_images(tmp_path, server, names=slice(1))
    assert check_submission(path).files == 1, "without images any number of maps is accepted"
    with pytest.raises(DataError, match="1 of 2 label maps are missing"):
        check_submission(path, images)


def test_folders_of_other_images_are_refused(tmp_path):
    path, _ = archive_and_images(tmp_path, "uavid")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no seq\*/Images/\*\.png"):
        check_submission(path, tmp_path / "empty")
    loveda, images = archive_and_images(tmp_path, "loveda")
    Image.new("RGB", (5, 4)).save(images / "Urban" / "images_png" / "1.png")
    with pytest.raises(DataError, match=r"two images are called 1\.png"):
        check_submission(loveda, images)


def test_the_command_counts_label_maps(tmp_path, capsys):
    path, images = archive_and_images(tmp_path, "loveda")
    with pytest.raises(SystemExit) as ended:
        main(["submission", "check", str(path), "--images", str(images)])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "LoveDA" in said and "accepted" in said


@pytest.mark.parametrize("server", ["loveda", "uavid"])
def test_a_config_tests_the_split_of_its_server(tmp_path, server):
    epochs = {"loveda": 30, "uavid": 40}[server]
    cfg = load_config(f"lsknet/lsknet_t_unetformer_{epochs}e_{server}")
    cfg.work_dir = str(tmp_path)
    SemanticSegmentation().prepare_config(cfg, RunRequest("test", format_only=True))
    assert cfg.test_evaluator == dict(
        type="rsfoundation.LabelMapSubmission", out=str(tmp_path / "submission")
    )
    data = cfg.test_dataloader.dataset
    assert data.split == {"loveda": "Test", "uavid": "uavid_test"}[server]
    assert not any("Mask" in step["type"] for step in data.pipeline)


def test_other_classes_have_no_server(tmp_path):
    metric = LabelMapSubmission(str(tmp_path))
    metric.dataset_meta = dict(classes=("a", "b"))
    with pytest.raises(ConfigError, match="no server is known for 2 classes"):
        _ = metric.server
