"""Masks for boxes and points: what is read, which windows are seen, where masks come to be."""

import json

import cv2
import numpy as np
import pytest
import torch
from prompt_models import VISION, WIDTH
from pycocotools import mask as coco_mask
from raster_files import write_tiff

from rsfoundation.cli import main
from rsfoundation.core.errors import CheckpointError, ConfigError, DataError
from rsfoundation.core.task import Window
from rsfoundation.inference.prompts import (
    Prompt,
    PromptModel,
    plan_windows,
    predict_prompts,
    read_prompts,
    segment_scene,
)
from rsfoundation.inference.scenes import open_scene
from rsfoundation.io.georeference import GeoReference
from rsfoundation.models.prompt.sam import SAM, sam_from_checkpoint

SIDE = VISION["image_size"]
NOWHERE = GeoReference()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    sam = SAM(
        "base",
        VISION,
        dict(hidden_size=WIDTH, image_size=SIDE),
        dict(hidden_size=WIDTH, mlp_dim=48, iou_head_hidden_dim=24),
    )
    sam.vision_encoder.init_scratch()
    file = tmp_path_factory.mktemp("sam") / "sam.pth"
    torch.save(sam.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def model(checkpoint):
    return PromptModel(str(checkpoint), "cpu")


class BoxFiller(PromptModel):
    """In the place of SAM: the box itself, or 3 x 3 pixels around the first point."""

    def __init__(self, side):
        super_model = PromptModel.__new__(PromptModel)
        self.__dict__.update(super_model.__dict__)
        from rsfoundation.registry import TASKS

        self.task = self.scenes = TASKS.build(dict(type="InstanceSegmentation"))
        self.side, self.checkpoint, self.seen = side, "none", []

    def masks(self, image, prompts):
        self.seen.append(image.shape[:2])
        return [(self.fill(prompt, image.shape[:2]), 0.5) for prompt in prompts]

    @staticmethod
    def fill(prompt, size):
        mask = np.zeros(size, bool)
        left, top, right, bottom = prompt.bounds
        if prompt.box is None:
            left, top, right, bottom = left - 1, top - 1, left + 1, top + 1
        rows = slice(max(0, round(top)), round(bottom) + 1)
        mask[rows, max(0, round(left)) : round(right) + 1] = True
        return mask


def box(*corners):
    return Prompt(np.zeros((0, 2)), np.zeros(0, int), tuple(map(float, corners)))


def point(x, y):
    return Prompt(np.array([[x, y]], float), np.ones(1, int))


def test_a_sam_of_any_size_is_built_from_its_weights(checkpoint):
    sam = sam_from_checkpoint(str(checkpoint))
    assert sam.vision_encoder.layers[0].attn.window == VISION["window_size"]
    assert sam.vision_encoder.layers[1].attn.window == 0
    assert sam.prompt_encoder.input_shape == (SIDE, SIDE)
    state = torch.load(checkpoint)
    assert all(torch.equal(value, state[key]) for key, value in sam.state_dict().items())


def test_a_file_without_the_whole_sam_is_refused(checkpoint, tmp_path):
    state = {key: value for key, value in torch.load(checkpoint).items() if key.startswith("vision_encoder")}
    torch.save(state, tmp_path / "encoder.pth")
    with pytest.raises(CheckpointError, match="no whole SAM: shared_image_embedding"):
        sam_from_checkpoint(str(tmp_path / "encoder.pth"))


def test_the_sam_of_a_detector_is_found(checkpoint, tmp_path):
    state = {f"segmentor.sam_model.{key}": value for key, value in torch.load(checkpoint).items()}
    torch.save(dict(state_dict={**state, "detector.x": torch.zeros(1)}), tmp_path / "det.pth")
    assert isinstance(sam_from_checkpoint(str(tmp_path / "det.pth")), SAM)


def test_masks_are_those_of_sam_in_the_order_of_the_prompts(model):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    two = Prompt(np.array([[5.0, 6.0], [30.0, 31.0]]), np.array([1, 0]))
    prompts = [point(10, 12), box(4, 6, 40, 50), two, box(20, 20, 60, 40), point(50, 9)]
    found = model.masks(image, prompts)
    mean = torch.tensor([123.675, 116.28, 103.53])
    pixels = (torch.from_numpy(image) - mean) / torch.tensor([58.395, 57.12, 57.375])
    pixels = pixels.permute(2, 0, 1)[None].float()
    for prompt, (mask, score) in zip(prompts, found, strict=True):
        one = prompt.box is None and len(prompt.points) == 1
        options = dict(multimask_output=one)
        if prompt.box is None:
            options["input_points"] = torch.tensor(prompt.points)[None, None].float()
            options["input_labels"] = torch.tensor(prompt.labels)[None, None]
        else:
            options["input_boxes"] = torch.tensor(prompt.box)[None, None].float()
        with torch.no_grad():
            masks, scores = model.sam(pixels, **options)
        best = scores[0, 0].argmax()
        logits = torch.nn.functional.interpolate(masks[0, :, best][None], (SIDE, SIDE), mode="bilinear")
        assert (mask == (logits[0, 0] > 0).numpy()).mean() > 0.999
        assert score == pytest.approx(scores[0, 0, best].clamp(0, 1).item(), abs=1e-5)


def test_images_of_other_sizes_keep_their_shape(model):
    ((mask, _),) = model.masks(np.full((30, 100, 3), 90, np.uint8), [box(5, 5, 50, 20)])
    assert mask.shape == (30, 100)


def read(boxes=(), points=(), reference=NOWHERE):
    return read_prompts(boxes, points, reference, "scene.tif")


def test_prompts_as_texts_and_files(tmp_path):
    (tmp_path / "boxes.csv").write_text("# roofs\n1,2,3,4\n\n5,6,7,8\n")
    made = read([str(tmp_path / "boxes.csv"), "10,10,20,30"], ["4,5;6,7,0", "1.5,2"])
    assert [prompt.box for prompt in made] == [(1, 2, 3, 4), (5, 6, 7, 8), (10, 10, 20, 30), None, None]
    assert made[3].points.tolist() == [[4, 5], [6, 7]] and made[3].labels.tolist() == [1, 0]
    assert made[4].bounds == (1.5, 2, 1.5, 2)


@pytest.mark.parametrize("text", ["1,2,3", "5,5,5,9", "1,2,nan,4", "roof.csv", "1,2,3,4;5,6,7,8"])
def test_texts_that_are_no_boxes(text):
    with pytest.raises(ConfigError, match="neither a file nor a prompt"):
        read([text])


@pytest.mark.parametrize("text", ["1", "1,2,3", "1,2;", "a,b"])
def test_texts_that_are_no_points(text):
    with pytest.raises(ConfigError, match="neither a file nor a prompt"):
        read(points=[text])


def test_lines_and_empty_files_are_named(tmp_path):
    file = tmp_path / "boxes.txt"
    file.write_text("1,2,3,4\n1,2\n")
    with pytest.raises(ConfigError) as raised:
        read([str(file)])
    assert raised.value.where == f"{file}:2"
    file.write_text("\n")
    with pytest.raises(DataError, match="holds no prompt"):
        read([str(file)])


def test_vector_files_are_in_their_own_crs(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    import shapely

    reference = GeoReference("EPSG:32633", (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0))
    shape = shapely.box(500_010, 4_999_980, 500_020, 4_999_990)  # columns 20..40, rows 20..40
    table = geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32633").to_crs("EPSG:4326")
    table.to_file(tmp_path / "roofs.gpkg")
    (prompt,) = read([str(tmp_path / "roofs.gpkg")], reference=reference)
    np.testing.assert_allclose(prompt.box, (19.5, 19.5, 39.5, 39.5), atol=0.1)
    geopandas.GeoDataFrame(geometry=[shape.centroid], crs="EPSG:32633").to_file(tmp_path / "tanks.geojson")
    (prompt,) = read(points=[str(tmp_path / "tanks.geojson")], reference=reference)
    np.testing.assert_allclose(prompt.points, [[29.5, 29.5]], atol=0.01)
    with pytest.raises(ConfigError, match="no transform"):
        read([str(tmp_path / "roofs.gpkg")])
    with pytest.raises(DataError, match="holds no polygon"):
        read([str(tmp_path / "tanks.geojson")], reference=reference)


def test_neighbours_share_a_window_and_others_have_their_own():
    prompts = [box(100, 100, 140, 140), box(150, 120, 170, 160), box(900, 900, 930, 930)]
    plan = list(plan_windows(prompts, 1000, 1000, 256))
    assert [numbers for _, numbers in plan] == [[0, 1], [2]]
    assert plan[0][0] == Window(0, 0, 256, 256)
    assert plan[1][0] == Window(744, 744, 256, 256)


def test_a_large_object_has_a_large_window_that_small_ones_do_not_share():
    prompts = [box(100, 100, 700, 500), box(300, 300, 310, 310)]
    plan = list(plan_windows(prompts, 2000, 2000, 256))
    assert [numbers for _, numbers in plan] == [[0], [1]]
    assert plan[0][0].width == 900 and plan[1][0].width == 256


def test_every_prompt_is_in_its_window():
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 1900, (60, 2))
    sides = rng.uniform(2, 400, (60, 2))
    ends = np.minimum(corners + sides, 2000)
    prompts = [box(*start, *end) for start, end in zip(corners, ends, strict=True)]
    seen = []
    for window, numbers in plan_windows(prompts, 2000, 2000, 256):
        assert 0 <= window.left <= 2000 - window.width and 0 <= window.top <= 2000 - window.height
        for number in numbers:
            left, top, right, bottom = prompts[number].bounds
            assert window.left <= left and right <= window.left + window.width
            assert window.top <= top and bottom <= window.top + window.height
        seen += numbers
    assert sorted(seen) == list(range(60)) and len(seen) == 60


@pytest.fixture
def scene(tmp_path):
    cv2.imwrite(str(tmp_path / "big.png"), np.full((600, 900, 3), 90, np.uint8))
    opened = open_scene([tmp_path / "big.png"])
    yield opened
    opened.close()


def test_masks_are_in_pixels_of_the_scene(scene):
    model = BoxFiller(128)
    prompts = [box(700, 500, 720, 530), point(20, 30), box(100, 100, 699, 499)]
    result, windows = segment_scene(model, scene, prompts, 128)
    assert windows == 3 and [mask.box for mask in result.masks[:2]] == [(700, 500, 21, 31), (19, 29, 3, 3)]
    assert max(max(size) for size in model.seen) <= 128, "the large one was read at a coarser scale"
    np.testing.assert_allclose(result.masks[2].box, (100, 100, 600, 400), atol=8)
    assert (result.height, result.width) == (600, 900)


def test_prompts_without_a_mask_are_named(scene, caplog):
    class Blind(BoxFiller):
        def masks(self, image, prompts):
            return [(np.zeros(image.shape[:2], bool), 0.1) for _ in prompts]

    result, _ = segment_scene(Blind(128), scene, [box(1, 1, 5, 5)], 128)
    assert len(result.masks) == 0


def test_prompts_outside_the_scene(scene):
    with pytest.raises(DataError, match="prompt 2 is at 950, 3, outside the 900 x 600 px"):
        segment_scene(BoxFiller(128), scene, [point(3, 3), point(950, 3)], 128)


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(["predict", *map(str, words)])
    return stop.value.code


def test_the_console_writes_json_and_an_overlay(checkpoint, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "roof.png"), np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8))
    words = [tmp_path / "roof.png", "-m", checkpoint, "-o", tmp_path / "out", "--device", "cpu"]
    assert run(*words, "--prompt-boxes", "10,10,60,50", "--prompt-points", "80,40") == 0
    content = json.loads((tmp_path / "out/roof.json").read_text())
    assert content["classes"] == ["object"] and 0 < len(content["objects"]) <= 2
    assert coco_mask.decode(content["objects"][0]["segmentation"]).shape == (90, 120)
    assert (tmp_path / "out/roof_overlay.png").is_file()
    assert json.loads((tmp_path / "out/report.json").read_text())["scenes"][0]["status"] == "done"
    assert {path.name for path in (tmp_path / "out").glob(".*")} == set()
    for option in (["--tta"], ["--gsd", "0.5"], ["-m", checkpoint]):
        assert run(*words, "--prompt-points", "80,40", *option) == 2
        assert "has no effect with prompts" in capsys.readouterr().err


def test_a_scene_with_a_crs_gives_polygons(tmp_path):
    pytest.importorskip("geopandas")
    import geopandas

    file = write_tiff(tmp_path / "scene.tif", np.full((200, 300, 3), 90, np.uint8), crs="EPSG:32633")
    model = BoxFiller(128)
    (done,) = predict_prompts(model, [file], tmp_path / "out", boxes=["20,30,59,69"])
    (table,) = [geopandas.read_file(path) for path in done.files if path.suffix == ".gpkg"]
    assert done.summary["objects"] == 1 and len(table) == 1
    assert table.geometry.area.iloc[0] > 0
