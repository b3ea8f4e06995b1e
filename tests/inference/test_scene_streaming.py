"""What a scene's result must not depend on: window size, batch, area, processes, and being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rasterio")
pytest.importorskip("pyogrio")

import geopandas
import rasterio
import shapely
from exact_models import SEEN, write_run
from locations import HELPERS, ROOT
from rasterio.transform import from_origin

from rsfoundation.core.errors import DataError
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, open_scene, predict, predict_scene, predict_scenes

WIDTH, HEIGHT = 700, 1300  # three rows of tiles


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("streaming")


@pytest.fixture(scope="module")
def models(root):
    kinds = ("segmentation", "detection", "instance")
    return {kind: WindowModel(write_run(root / kind, kind), device="cpu") for kind in kinds}


@pytest.fixture(scope="module")
def scene(root):
    """Rotated rectangles on class 0, with a frame of no data."""
    rng = np.random.default_rng(0)
    bands = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    bands[1], bands[2] = 250, 9
    taken = []
    while len(taken) < 90:
        x, y = rng.uniform(40, WIDTH - 40), rng.uniform(40, HEIGHT - 40)
        if all(np.hypot(x - a, y - b) > 62 for a, b in taken):
            taken.append((x, y))
            length, width, turn = rng.uniform(14, 44), rng.uniform(6, 14), rng.uniform(0, np.pi)
            rows, columns = np.mgrid[int(y) - 32 : int(y) + 33, int(x) - 32 : int(x) + 33]
            along = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
            across = -(columns - x) * np.sin(turn) + (rows - y) * np.cos(turn)
            inside = (abs(along) <= length / 2) & (abs(across) <= width / 2)
            bands[0, rows[inside], columns[inside]] = 30 * rng.integers(1, 6)
    bands[:, :, :10] = 0
    file = root / "scene.tif"
    profile = dict(driver="GTiff", height=HEIGHT, width=WIDTH, count=3, dtype="uint8", nodata=0, tiled=True)
    options = dict(
        crs="EPSG:32633", transform=from_origin(500000, 5200000, 0.5, 0.5), blockxsize=256, blockysize=256
    )
    with rasterio.open(file, "w", **profile, **options) as made:
        made.write(bands)
    return file


def save(file, bands):
    count, height, width = bands.shape
    shape = dict(driver="GTiff", height=height, width=width, count=count, dtype="uint8")
    corner = from_origin(500000, 5200000, 0.5, 0.5)
    with rasterio.open(file, "w", **shape, crs="EPSG:32633", transform=corner) as made:
        made.write(bands)


def class_map(folder, name="scene"):
    with rasterio.open(folder / f"{name}.tif") as made:
        return made.read(1)


@pytest.fixture(scope="module")
def whole(models, scene, root):
    predict(
        models["segmentation"],
        [scene],
        root / "whole",
        PredictOptions(window=128, overlap=48, formats=("tif",)),
    )
    return class_map(root / "whole")


@pytest.mark.parametrize(
    ("window", "overlap", "batch"), [(96, 0, 1), (200, 48, 3), (512, 128, 2), (2000, 0, 1)]
)
def test_map_does_not_depend_on_windows_or_batches(models, scene, tmp_path, whole, window, overlap, batch):
    options = PredictOptions(window=window, overlap=overlap, batch_size=batch, formats=("tif",))
    predict(models["segmentation"], [scene], tmp_path, options)
    np.testing.assert_array_equal(class_map(tmp_path), whole)


@pytest.mark.parametrize("kind", ["detection", "instance"])
def test_objects_do_not_depend_on_windows_or_batches(models, scene, kind):
    """An exact detector sees every object whole in one window, and cut in others."""
    expected = predict_scene(models[kind], open_scene([scene]), PredictOptions(window=2000))
    assert len(expected.scores) == 90
    for window, overlap, batch in ((128, 64, 1), (200, 64, 4), (300, 100, 3)):
        options = PredictOptions(window=window, overlap=overlap, batch_size=batch)
        found = predict_scene(models[kind], open_scene([scene]), options)
        assert len(found.scores) == 90
        ours, theirs = found.centres(), expected.centres()
        nearest = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
        assert nearest.min(axis=1).max() < 0.01
        assert (found.labels == expected.labels[nearest.argmin(axis=1)]).all()


@pytest.mark.parametrize("kind", ["detection", "instance"])
def test_an_object_over_three_windows_is_one_feature(models, tmp_path, kind):
    bands = np.zeros((3, 64, 400), np.uint8)
    bands[0, 20:32, 20:380], bands[1] = 60, 250
    file = tmp_path / "long.tif"
    save(file, bands)
    predict(models[kind], [file], tmp_path / "out", PredictOptions(window=128, overlap=32, formats=("gpkg",)))
    table = geopandas.read_file(tmp_path / "out" / "long.gpkg", layer="long")
    assert table["class"].tolist() == ["class1"]
    np.testing.assert_allclose(table.total_bounds, (500010, 5199984, 500190, 5199990), atol=1e-3)


def test_an_area_of_interest_gives_the_bytes_of_the_whole(models, scene, tmp_path, whole):
    """The map equals the whole one inside a rotated polygon; objects are those with their centres inside."""
    triangle = shapely.Polygon([(500100, 5199950), (500300, 5199700), (500120, 5199500)])
    geopandas.GeoDataFrame(geometry=[triangle], crs="EPSG:32633").to_crs("EPSG:4326").to_file(
        tmp_path / "aoi.geojson"
    )
    options = PredictOptions(window=128, overlap=48, formats=("tif",), aoi=str(tmp_path / "aoi.geojson"))
    (done,) = predict(models["segmentation"], [scene], tmp_path / "out", options)
    part = class_map(tmp_path / "out")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = shapely.contains_xy(triangle, 500000.25 + columns / 2, 5199999.75 - rows / 2)
    border = (
        shapely.distance(triangle.exterior, shapely.points(500000.25 + columns / 2, 5199999.75 - rows / 2))
        < 0.3
    )
    np.testing.assert_array_equal(part[inside & ~border], whole[inside & ~border])
    assert (part[~inside & ~border] == 255).all()
    assert done.windows < 0.6 * 11 * 16  # windows elsewhere are not read

    everything = PredictOptions(window=128, overlap=64, formats=("gpkg",))
    predict(models["detection"], [scene], tmp_path / "all", everything)
    predict(models["detection"], [scene], tmp_path / "some", replace(everything, aoi=options.aoi))
    tables = [geopandas.read_file(tmp_path / name / "scene.gpkg", layer="scene") for name in ("all", "some")]
    expected = tables[0][tables[0].centroid.within(triangle)]
    assert 5 < len(expected) < 60
    assert expected.geometry.to_wkt().tolist() == tables[1].geometry.to_wkt().tolist()


def test_a_rest_of_windows_is_filled_up_to_the_batch_size(models, scene, tmp_path):
    SEEN.clear()
    predict(
        models["segmentation"],
        [scene],
        tmp_path,
        PredictOptions(window=512, overlap=0, batch_size=4, formats=("tif",)),
    )
    assert {size for (size,) in SEEN} == {4}


def test_batches_reach_across_scenes(models, scene, tmp_path):
    SEEN.clear()
    copies = [tmp_path / f"{index}.tif" for index in range(4)]
    for copy in copies:
        copy.write_bytes(scene.read_bytes())
    done = predict(models["detection"], copies, tmp_path / "out", PredictOptions(window=2000, batch_size=2))
    assert [one.windows for one in done] == [1, 1, 1, 1]
    assert len(SEEN) == 2


def test_a_coarser_sampling_distance_is_read_with_averages(models, tmp_path):
    """Pixels of 0, 90, 180 in turn are 90 at a third of the resolution, and nothing in between."""
    labels = np.kron(np.array([[1, 3], [5, 2]]), np.ones((60, 60), int))
    fine = labels * 30 + 15 + np.tile([-15, 0, 15], 40)[None]
    bands = np.stack([fine, np.full_like(fine, 200), np.full_like(fine, 9)]).astype(np.uint8)
    file = tmp_path / "fine.tif"
    save(file, bands)
    maps = []
    for window in (32, 64):
        out = tmp_path / f"out{window}"
        predict(
            models["segmentation"],
            [file],
            out,
            PredictOptions(window=window, overlap=0, gsd=1.5, formats=("tif",)),
        )
        with rasterio.open(out / "fine.tif") as made:
            assert made.shape == (40, 40) and made.res == (1.5, 1.5)
            assert made.bounds == (500000, 5199940, 500060, 5200000)
            maps.append(made.read(1))
    np.testing.assert_array_equal(*maps)  # neighbouring windows agree
    kept = np.ones((40, 40), bool)
    kept[18:22] = kept[:, 18:22] = False  # where two classes are averaged
    np.testing.assert_array_equal(
        maps[0][kept], np.kron(np.array([[1, 3], [5, 2]]), np.ones((20, 20), int))[kept]
    )


def test_a_window_that_fails_fails_its_scene_by_name_and_no_other(root, scene, tmp_path):
    marked = tmp_path / "marked.tif"
    marked.write_bytes(scene.read_bytes())
    with rasterio.open(marked, "r+") as made:
        made.write(np.full((3, 4, 4), 211, np.uint8), window=((600, 604), (300, 304)))
    model = WindowModel(
        write_run(tmp_path / "frail", "segmentation"), device="cpu", overrides=["model.fail_on=211"]
    )
    options = PredictOptions(window=256, overlap=0, batch_size=3, formats=("tif",))
    first, second = predict(model, [marked, scene], tmp_path / "out", options)
    assert isinstance(first.error, DataError) and "marked.tif" in str(first.error)
    assert "row 512" in str(first.error) and "out of memory" in str(first.error)
    assert second.error is None and not (tmp_path / "out" / "marked.tif").exists()


SCRIPT = """
import sys
sys.path.insert(0, {helpers!r})
from pathlib import Path
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, predict
model = WindowModel({run!r}, device="cpu")
print("ready", flush=True)
options = PredictOptions(window=64, overlap=16, picture=False, formats={formats!r})
predict(model, [Path({scene!r})], Path({out!r}), options)
print("done", flush=True)
"""


def start(run, scene, out, formats):
    text = SCRIPT.format(helpers=str(HELPERS), run=str(run), scene=str(scene), out=str(out), formats=formats)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, env=environment, text=True
    )
    while (line := process.stdout.readline()).strip() != "ready":
        assert line, "the process ended before its model was loaded"
    return process


def finished_parts(out):
    return len(list(out.glob(".*/*/*.tiles")) + list(out.glob(".*/*/row_*.npz")))


def kill_and_rerun(run, scene, folder, formats, moments):
    """Kill a run when some parts are finished (whole numbers) or after a share of its time; run it again."""
    undisturbed = start(run, scene, folder / "undisturbed", formats)
    started = time.monotonic()
    assert any(line.strip() == "done" for line in iter(undisturbed.stdout.readline, ""))
    taken = time.monotonic() - started
    assert undisturbed.wait() == 0
    expected = {file.name: file.read_bytes() for file in (folder / "undisturbed").iterdir() if file.is_file()}
    for moment in moments:
        out = folder / f"killed_{moment:.3f}"
        process = start(run, scene, out, formats)
        if isinstance(moment, int):
            while finished_parts(out) < moment and process.poll() is None:
                time.sleep(0.002)
        else:
            time.sleep(moment * taken)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for name in expected:  # what is there is whole
            assert not (out / name).exists() or (out / name).read_bytes() == expected[name]
        assert start(run, scene, out, formats).wait() == 0
        assert {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()} == expected
        assert [entry.name for entry in out.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("kind", "formats"), [("segmentation", ("tif", "gpkg")), ("detection", ("gpkg", "txt"))]
)
def test_a_killed_run_continues_and_ends_with_the_same_bytes(root, models, scene, tmp_path, kind, formats):
    kill_and_rerun(root / kind, scene, tmp_path, formats, (2,))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "formats"), [("segmentation", ("tif", "probabilities", "gpkg")), ("instance", ("gpkg",))]
)
def test_twenty_kills(root, models, scene, tmp_path, kind, formats):
    kill_and_rerun(
        root / kind, scene, tmp_path, formats, np.random.default_rng(1).uniform(0.02, 1.0, 20).tolist()
    )


def test_finished_rows_are_not_predicted_again(models, scene, tmp_path):
    options = PredictOptions(window=128, overlap=0, formats=("tif",))
    jobs = []

    class Stop(Exception):
        pass

    model = models["segmentation"]
    original = model.predict_packed
    try:

        def until_the_end(packed):
            jobs.append(len(packed))
            if len(jobs) > 45:
                raise Stop
            return original(packed)

        model.predict_packed = until_the_end
        with pytest.raises(Stop):
            predict(model, [scene], tmp_path / "out", options)
        model.predict_packed = lambda packed: (jobs.append(1), original(packed))[1]
        jobs.clear()
        predict(model, [scene], tmp_path / "out", options)
    finally:
        del model.predict_packed
    assert len(jobs) == 6 * 7  # of 66 windows, those of the first 512 rows are done


def test_unfinished_work_of_other_settings_is_thrown_away(models, scene, tmp_path, whole):
    work = tmp_path / "out" / ".scene.partial" / "0"
    work.mkdir(parents=True)
    (work / "settings.json").write_text(json.dumps({"fingerprint": "of something else"}))
    (work / "classes_000000.tiles").write_bytes(b"nothing")
    predict(
        models["segmentation"],
        [scene],
        tmp_path / "out",
        PredictOptions(window=128, overlap=48, formats=("tif",)),
    )
    np.testing.assert_array_equal(class_map(tmp_path / "out"), whole)


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_processes_give_the_bytes_of_one(root, models, scene, tmp_path, ranks):
    """Two scenes, a map and objects; ranks share rows inside the scenes."""
    second = tmp_path / "second.tif"
    second.write_bytes(scene.read_bytes())
    for kind, formats in (("segmentation", ("tif", "gpkg")), ("detection", ("gpkg",))):
        options = PredictOptions(window=64, overlap=16, picture=False, formats=formats)
        predict_scenes([models[kind]], [scene, second], tmp_path / f"one_{kind}", options)
        arguments = [
            str(scene),
            str(second),
            "-m",
            str(root / kind),
            "-o",
            str(tmp_path / f"many_{kind}"),
            "--no-picture",
        ]
        arguments += [
            "--launcher",
            "pytorch",
            "--device",
            "cpu",
            *(word for kind_ in formats for word in ("-f", kind_)),
        ]
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(ranks),
        ]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, str(ROOT / "tools" / "predict.py"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        one, many = (
            {
                file.name: file.read_bytes()
                for file in (tmp_path / f"{name}_{kind}").iterdir()
                if file.name != "report.json"
            }
            for name in ("one", "many")
        )
        assert one == many
        report = json.loads((tmp_path / f"many_{kind}" / "report.json").read_text())
        assert [entry["status"] for entry in report["scenes"]] == ["done", "done"]
