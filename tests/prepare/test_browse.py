"""Pictures of samples from folders and configs, before and after augmentation, and the worst predictions."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from check_samples import SIDE, boxes, make_dota, make_pairs, save, texture
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.engine.run_hooks import WorstHook
from rsfoundation.evaluation.average_precision import unmatched_share
from rsfoundation.geometry.boxes import quad_to_rbox
from rsfoundation.prepare.browse import contact_sheet, draw_samples
from rsfoundation.tasks.change import ChangeDetection
from rsfoundation.tasks.classification import SceneRecognition
from rsfoundation.tasks.detection import OrientedDetection
from rsfoundation.tasks.instance import InstanceSegmentation
from rsfoundation.tasks.segmentation import SemanticSegmentation


def test_a_folder_of_boxes_is_drawn_over_its_images(tmp_path):
    root = make_dota(tmp_path / "dota")
    files = draw_samples(root, tmp_path / "out", split="train", count=3)
    assert len(files) == 3 and files[0].name == "00000_train0.png"
    picture = cv2.imread(str(files[0]))[..., ::-1]
    changed = (picture.astype(int) != texture(0)).any(axis=2)
    middle = boxes(0).reshape(-1, 4, 2).mean(axis=1).round().astype(int)
    edge = boxes(0).reshape(-1, 4, 2)[:, :2].mean(axis=1).round().astype(int)
    assert changed[edge[:, 1], edge[:, 0]].all() and not changed[0].any()
    assert not changed[middle[:, 1], middle[:, 0]].all(), "outlines, not filled"
    (sheet,) = draw_samples(root, tmp_path / "sheet", split="val", sheet=True)
    assert sheet.name == "sheet.png" and cv2.imread(str(sheet)).shape[1] == 3 * 326 + 6
    with pytest.raises(ConfigError, match="no split 'test'") as caught:
        draw_samples(root, tmp_path / "out", split="test")
    assert "--split train or val" in caught.value.fix


def test_a_folder_of_pairs_shows_both_dates(tmp_path):
    root = make_pairs(tmp_path / "pairs", train=2, val=1)
    (file,) = draw_samples(root, tmp_path / "out", split="val", count=5)
    picture = cv2.imread(str(file))[..., ::-1].astype(int)
    assert picture.shape[1] > 2 * SIDE
    red = (picture[..., 0] > picture[..., 1] + 60) & (picture[..., 0] > 240)
    assert red[:, SIDE:].sum() > 200, "the white square is tinted red where it changed"


def test_a_folder_whose_images_are_broken_is_an_error(tmp_path):
    root = make_dota(tmp_path / "dota", train=1, val=0)
    for path in (root / "train/images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError):
        draw_samples(root, tmp_path / "out")


def test_a_config_is_drawn_before_and_after_augmentation(tmp_path):
    root = make_dota(tmp_path / "dota", train=2, val=1)
    cfg = Config(
        dict(
            default_scope="mmdet",
            task=dict(type="rsfoundation.OrientedDetection"),
            train_dataloader=dict(
                dataset=dict(
                    type="rsfoundation.DOTADataset", data_root=str(root), split="train",
                    pipeline=[
                        dict(type="rsfoundation.LoadImageFromFile"),
                        dict(type="mmdet.LoadAnnotations", with_bbox=True, box_type="qbox"),
                        dict(type="mmrotate.ConvertBoxType", box_type_mapping=dict(gt_bboxes="rbox")),
                        dict(type="rsfoundation.RandomFlip", prob=1.0, direction="vertical"),
                        dict(type="mmdet.PackDetInputs"),
                    ],
                )
            ),
        )
    )  # fmt: skip
    shapes = {}
    for stage in ("before", "after", "both"):
        files = draw_samples(cfg, tmp_path / stage, stage=stage, count=1, start=1)
        assert [file.name for file in files] == ["00001_train1.png"]
        shapes[stage] = cv2.imread(str(files[0])).shape
    assert shapes["both"][1] > shapes["before"][1] + shapes["after"][1]
    before = cv2.imread(str(tmp_path / "before/00001_train1.png"))[..., ::-1]
    assert np.array_equal(before[0], texture(1)[0]), "the file's pixels, not flipped"


def test_contact_sheets_hold_pictures_of_any_shape():
    paper = contact_sheet([np.zeros((50, 900, 3), np.uint8), np.full((700, 20, 3), 9, np.uint8)])
    assert paper.shape == (332, 658, 3) and (paper == 0).any() and (paper == 9).any()
    with pytest.raises(DataError):
        contact_sheet([])


@pytest.mark.parametrize(("overlaps", "error"), [
    (np.zeros((0, 0)), 0.0),
    (np.zeros((2, 0)), 1.0),
    (np.zeros((0, 2)), 1.0),
    ([[0.9, 0.6], [0.8, 0.1]], 0.5),  # the second finds the object that the first has: half of both
    ([[0.9, 0.6], [0.8, 0.7]], 0.0),
    ([[0.49, 0.0]], 1.0),
])  # fmt: skip
def test_unmatched_share(overlaps, error):
    assert unmatched_share(np.asarray(overlaps)) == pytest.approx(error)


def boxes_sample(truth, found, labels):
    return DetDataSample(
        gt_instances=InstanceData(bboxes=truth, labels=torch.zeros(len(truth), dtype=torch.long)),
        pred_instances=InstanceData(
            bboxes=found, labels=torch.tensor(labels), scores=torch.full((len(found),), 0.9)
        ),
    )


def test_errors_of_samples_of_each_task():
    truth = torch.from_numpy(quad_to_rbox(boxes(1, count=4)))
    detection = OrientedDetection()
    assert detection.sample_error(boxes_sample(truth, truth, [0, 0, 0, 0])) == pytest.approx(0, abs=1e-6)
    assert detection.sample_error(boxes_sample(truth, truth, [0, 0, 0, 1])) == pytest.approx(0.25)
    assert detection.sample_error(boxes_sample(truth, truth[:0], [])) == 1
    one, two = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    one[:4], two[2:6] = 1, 1

    def maps(truth, found):
        planes = dict(gt_sem_seg=truth, pred_sem_seg=found)
        return SegDataSample(**{k: PixelData(data=torch.from_numpy(v)[None]) for k, v in planes.items()})

    assert SemanticSegmentation().sample_error(maps(one, two)) == pytest.approx(0.5)
    assert ChangeDetection().sample_error(maps(one, two)) == pytest.approx(2 / 3)
    assert ChangeDetection().sample_error(maps(one * 0, two * 0)) == 0
    ignored = np.where(one == 1, np.uint8(255), one)
    assert ChangeDetection().sample_error(maps(ignored, one)) == 0, "ignored pixels do not count"
    masks = DetDataSample(
        gt_instances=InstanceData(masks=torch.from_numpy(one[None]).bool(), labels=torch.tensor([0])),
        pred_instances=InstanceData(
            masks=torch.from_numpy(np.stack([one, two])).bool(), labels=torch.tensor([0, 0]),
            scores=torch.tensor([0.9, 0.1]),
        ),
    )  # fmt: skip
    assert InstanceSegmentation().sample_error(masks) == 0, "the second has a score under 0.3"
    scene = SimpleNamespace(pred_score=torch.tensor([0.2, 0.7, 0.1]), gt_label=torch.tensor([1]))
    assert SceneRecognition().sample_error(scene) == pytest.approx(0.3)
    assert SceneRecognition(multi_label=True).sample_error(scene) == 0


def test_the_worst_predictions_are_drawn_the_worst_first(tmp_path):
    class Task(SemanticSegmentation):
        def sample_error(self, sample):
            return sample.metainfo["error"]

        def draw_comparison(self, images, sample, classes):
            return images[0]

    errors = [0.1, 0.9, 0.4, 0.9, 0.0]
    samples = []
    for number, error in enumerate(errors):
        path = save(tmp_path / f"{number}.png", texture(number))
        samples.append(SegDataSample(metainfo=dict(error=error, img_path=str(path))))
    dataset = SimpleNamespace(metainfo=dict(classes=("a", "b"), palette=[(0, 0, 0), (9, 9, 9)]))
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))
    hook = WorstHook(Task(), tmp_path / "out", count=3)
    for batch in (samples[:2], samples[2:]):
        hook.after_test_iter(runner, 0, outputs=batch)
    assert len(hook._kept) == 3, "no more predictions are in memory"
    hook.after_test_epoch(runner)
    files = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert files == ["000_0.900_1.png", "001_0.900_3.png", "002_0.400_2.png"]
    record = json.loads((tmp_path / "out/errors.json").read_text())["samples"]
    assert [row["error"] for row in record] == sorted(errors, reverse=True)

    class Silent(Task):
        def sample_error(self, sample):
            return None

    with pytest.raises(ConfigError, match="no error of one image"):
        WorstHook(Silent(), tmp_path / "out").after_test_iter(runner, 0, outputs=samples)
