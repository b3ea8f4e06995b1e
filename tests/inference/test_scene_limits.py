"""Scenes that cannot be predicted or written: clear errors, nothing half written, other scenes continue."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rasterio")
pytest.importorskip("pyogrio")

import geopandas
import rasterio
import shapely
from exact_models import write_run
from locations import HELPERS, ROOT
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.plan import plan_scenes
from rsfoundation.inference.predict import PredictOptions, predict, predict_scenes

SIDE = 128
CORNER = from_origin(500000.25, 5200000.75, 0.5, 0.5)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("limits")


@pytest.fixture(scope="module")
def models(root):
    kinds = ("segmentation", "detection")
    return {kind: WindowModel(write_run(root / kind, kind), device="cpu") for kind in kinds}


def save(path, bands, crs="EPSG:32633", transform=CORNER, **profile):
    count, height, width = bands.shape
    shape = dict(driver="GTiff", height=height, width=width, count=count, dtype=bands.dtype)
    with rasterio.open(path, "w", **shape, crs=crs, transform=transform, **profile) as file:
        file.write(bands)
    return path


def rectangle(left=10, top=20, right=30, bottom=40):
    bands = np.zeros((3, SIDE, SIDE), np.uint8)
    bands[0, top:bottom, left:right] = 30
    bands[1] = 200
    return bands


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {helpers!r})
from pathlib import Path
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, predict_scenes
models = {{kind: WindowModel(run, device="cpu") for kind, run in {runs!r}.items()}}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for task, limit, kinds in {cases!r}:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for kind in kinds:
        out = Path({out!r}) / task / kind
        options = PredictOptions(formats=(kind,), picture=False)
        (done,) = predict_scenes([models[task]], [Path({scene!r})], out, options)
        assert done.error is not None, (task, kind)
        assert "written" in done.error.what and "-o" in done.error.fix, (kind, done.error)
        named = [file.name for file in out.iterdir() if file.name != ".scene.partial"]
        assert named == [], (kind, named)
print("all refused")
"""


def test_a_full_disk_is_an_error_and_leaves_no_half_files(root, models, tmp_path):
    """A limit on the size of files makes writes fail as a full disk does, in GDAL's code too."""
    rng = np.random.default_rng(0)
    bands = np.kron(rng.integers(0, 7, (3, 64, 64)), np.ones((1, 8, 8), int)).astype(np.uint8) * 30
    scene = save(tmp_path / "scene.tif", bands)
    cases = [
        ("segmentation", 1_500, ("tif", "probabilities")),
        ("segmentation", 30_000, ("gpkg", "geojson", "fgb", "shp", "parquet", "html")),
        ("detection", 3_000, ("txt", "json", "coco", "gpkg", "geojson", "html")),
    ]
    runs = {kind: str(root / kind) for kind in models}
    text = FULL_DISK.format(
        helpers=str(HELPERS), runs=runs, cases=cases, out=str(tmp_path / "out"), scene=str(scene)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "all refused" in done.stdout, done.stderr[-3000:]


def test_after_a_full_disk_the_second_call_completes(models, tmp_path, monkeypatch):
    from rsfoundation.io import vectors

    scene = save(tmp_path / "scene.tif", rectangle())
    writers = dict(vectors._WRITERS)

    def full(table, path, layer, changed):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(vectors._WRITERS, "gpkg", full)
    (done,) = predict_scenes([models["detection"]], [scene], tmp_path / "out", PredictOptions(picture=False))
    assert "no space left" in done.error.what.lower() and "second call" in done.error.fix
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".scene.partial"]
    monkeypatch.setitem(vectors._WRITERS, "gpkg", writers["gpkg"])
    (done,) = predict(models["detection"], [scene], tmp_path / "out", PredictOptions(picture=False))
    assert done.windows == 0 and done.summary["objects"] == 1  # its windows were kept


def test_an_output_folder_that_cannot_be_made(models, tmp_path):
    scene = save(tmp_path / "scene.tif", rectangle())
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match="output folder: not a directory") as caught:
        predict(models["detection"], [scene], tmp_path / "taken" / "out")
    assert "-o" in caught.value.fix


def test_a_wrong_number_of_bands_and_of_bits_is_said_before_predicting(models, tmp_path, caplog):
    scene = save(tmp_path / "real.tif", rectangle().astype(np.float32) / 255)
    with pytest.raises(DataError, match="float32 from 0 to") as caught:
        predict(models["segmentation"], [scene], tmp_path / "out")
    assert "--pixel-range 0," in caught.value.fix
    save(tmp_path / "few.tif", rectangle()[:1])
    model = WindowModel(
        models["segmentation"].checkpoint, device="cpu", overrides=["image_loading.bands=[1,2,3]"]
    )
    with pytest.raises(DataError, match="band"):
        predict(model, [tmp_path / "few.tif"], tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tif"))


@pytest.mark.parametrize("stretch", ["minmax", "2,98"])
def test_a_stretch_is_that_of_the_scene_and_not_of_a_window(models, tmp_path, stretch):
    """Of equal pixels in two windows, one next to bright land, the classes are equal."""
    bands = np.zeros((3, SIDE, SIDE), np.uint16)
    bands[:, :, :64], bands[:, :, 64:] = 1000, 3000
    bands[:, 40:60, 20:40] = 3000
    bands[:, 0, 0], bands[:, 0, 1] = 0, 4000  # two pixels that the percentiles leave out
    scene = save(tmp_path / "scene.tif", bands)
    options = PredictOptions(window=64, overlap=0, stretch=stretch, formats=("tif",))
    predict(models["segmentation"], [scene], tmp_path / "out", options)
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        labels = made.read(1)
    high = 6 if stretch == "2,98" else int(3000 / 4000 * 255) // 30
    low = 0 if stretch == "2,98" else int(1000 / 4000 * 255) // 30
    assert (labels[40:60, 20:40] == high).all() and (labels[10:, 64:] == high).all()
    assert (labels[70:, :64] == low).all()


def test_an_area_that_misses_a_scene_is_that_scenes_error(models, tmp_path):
    near = save(tmp_path / "near.tif", rectangle())
    far = save(tmp_path / "far.tif", rectangle(), transform=from_origin(600000, 5200000.75, 0.5, 0.5))
    options = PredictOptions(aoi="500000,5199990,500020,5200010", formats=("gpkg",), picture=False)
    done = predict_scenes([models["detection"]], [far, near], tmp_path / "out", options)
    assert done[0].error is not None and done[1].error is None and done[1].windows > 0
    assert "600000,5199936.75,600064,5200000.75 (EPSG:32633)" in done[0].error.what
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["near.gpkg", "near.qml"]


def test_a_stretch_that_is_none(models, tmp_path):
    scene = save(tmp_path / "scene.tif", rectangle())
    with pytest.raises(ConfigError, match="neither minmax nor two percentiles"):
        predict(models["segmentation"], [scene], tmp_path / "out", PredictOptions(stretch="98,2"))
    nothing = save(tmp_path / "nothing.tif", rectangle() * 0, nodata=0)
    with pytest.raises(DataError, match="holds no data"):
        predict(models["segmentation"], [nothing], tmp_path / "out", PredictOptions(stretch="2,98"))


def test_degrees_and_a_sampling_distance_in_metres(models, tmp_path):
    """A small scene in degrees is resampled to square pixels; a large one has no one sampling distance."""
    near = save(
        tmp_path / "near.tif", rectangle(), crs="EPSG:4326", transform=Affine(1e-5, 0, 12.5, 0, -1e-5, 60)
    )
    predict(models["segmentation"], [near], tmp_path / "out", PredictOptions(gsd=1.0, formats=("tif",)))
    with rasterio.open(tmp_path / "out" / "near.tif") as made:
        assert made.shape == (143, 71)  # at 60 degrees north a degree of longitude is half as long
        assert made.bounds == pytest.approx((12.5, 60 - 128e-5, 12.5 + 128e-5, 60))
    wide = save(
        tmp_path / "wide.tif", rectangle(), crs="EPSG:4326", transform=Affine(0.1, 0, 10, 0, -0.1, 60)
    )
    with pytest.raises(ConfigError, match="in degrees") as caught:
        predict(models["segmentation"], [wide], tmp_path / "out", PredictOptions(gsd=1000.0))
    assert "gdalwarp" in caught.value.fix
    plain = save(tmp_path / "plain.tif", rectangle(), crs=None)
    with pytest.raises(ConfigError, match="ground sampling distance is not known"):
        predict(models["segmentation"], [plain], tmp_path / "out", PredictOptions(gsd=1.0))


def test_control_points_without_a_transform_give_pixels_and_no_crs(models, tmp_path, capfd):
    points = [
        GroundControlPoint(row=row, col=column, x=12 + column * 1e-5, y=48 - row * 1e-5)
        for row, column in ((0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE))
    ]
    file = tmp_path / "points.tif"
    shape = dict(driver="GTiff", height=SIDE, width=SIDE, count=3, dtype="uint8")
    with rasterio.open(file, "w", **shape, gcps=points, crs="EPSG:4326") as made:
        made.write(rectangle())
    predict(models["detection"], [file], tmp_path / "out", PredictOptions(formats=("gpkg", "txt")))
    table = geopandas.read_file(tmp_path / "out" / "points.gpkg", layer="points")
    assert table.crs is None
    np.testing.assert_allclose(table.total_bounds, (10, 20, 30, 40), atol=1e-5)
    predict(models["segmentation"], [file], tmp_path / "out", PredictOptions(formats=("tif",)))
    with rasterio.open(tmp_path / "out" / "points.tif") as made:
        assert made.crs is None
    with pytest.raises(ConfigError, match="no transform") as caught:
        predict(models["detection"], [file], tmp_path / "out", PredictOptions(formats=("geojson",)))
    assert "gdalwarp" in caught.value.fix


@pytest.fixture
def server(tmp_path):
    """A web server of the folder, in its own process: rasterio keeps Python's lock while it opens."""
    command = [sys.executable, str(HELPERS / "range_server.py"), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    port = int(process.stdout.readline())
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.mark.parametrize("prefix", ["", "/vsicurl/"])
def test_scenes_come_from_addresses(models, tmp_path, server, prefix, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    save(tmp_path / "scene.tif", rectangle())
    (done,) = predict(models["detection"], [f"{prefix}{server}/scene.tif"], tmp_path / "out")
    assert done.name == "scene" and done.summary["objects"] == 1
    table = geopandas.read_file(tmp_path / "out" / "scene.gpkg", layer="scene")
    np.testing.assert_allclose(table.total_bounds, (500005.25, 5199980.75, 500015.25, 5199990.75), atol=1e-4)
    with pytest.raises(DataError, match="cannot be opened") as caught:
        predict(models["detection"], [f"{prefix}{server}/nothing.tif"], tmp_path / "out")
    assert "gdalinfo" in caught.value.fix


def test_unfinished_work_on_an_address_continues(models, tmp_path, server, monkeypatch):
    """As for files: finished rows are kept, unless the raster behind the address is another one."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("CPL_VSIL_CURL_NON_CACHED", f"/vsicurl/{server}")  # another process keeps nothing
    bands = np.zeros((3, 1100, 64), np.uint8)
    bands[0, 520:1000, 20:40] = 90
    bands[1:] = 200
    save(tmp_path / "scene.tif", bands)
    model, address = models["segmentation"], f"{server}/scene.tif"
    options = PredictOptions(window=64, overlap=0, picture=False, formats=("gpkg",))
    predict(model, [address], tmp_path / "undisturbed", options)
    original, calls = model.predict_packed, []

    class Stop(Exception):
        pass

    def until_row_ten(packed):
        calls.append(1)
        if len(calls) > 10:
            raise Stop
        return original(packed)

    def run(out):
        calls.clear()
        model.predict_packed = lambda packed: (calls.append(1), original(packed))[1]
        predict(model, [address], out, options)
        return len(calls)

    try:
        for out in (tmp_path / "same", tmp_path / "other"):
            calls.clear()
            model.predict_packed = until_row_ten
            with pytest.raises(Stop):
                predict(model, [address], out, options)
        assert run(tmp_path / "same") == 10  # of 18 windows, those of the first 512 rows are done
        save(tmp_path / "scene.tif", bands[:, :, ::-1] + 1)
        assert run(tmp_path / "other") == 18
    finally:
        del model.predict_packed
    expected, found = ((tmp_path / name / "scene.gpkg").read_bytes() for name in ("undisturbed", "same"))
    assert found == expected


def test_boxes_across_the_antimeridian_are_split_in_geojson_alone(models, tmp_path):
    """A box from 179.98 to -179.98 degrees: two parts in GeoJSON, one in the scene's own coordinates."""
    scene = save(
        tmp_path / "scene.tif", rectangle(50, 20, 90, 40), crs="EPSG:4326",
        transform=Affine(1e-3, 0, 179.93, 0, -1e-3, 10),
    )  # fmt: skip
    predict(models["detection"], [scene], tmp_path / "out", PredictOptions(formats=("geojson", "gpkg")))
    (feature,) = json.loads((tmp_path / "out" / "scene.geojson").read_text())["features"]
    parts = shapely.from_geojson(json.dumps(feature["geometry"]))
    assert parts.geom_type == "MultiPolygon" and parts.area == pytest.approx(0.04 * 0.02, rel=1e-4)
    assert sorted(part.bounds[0] for part in parts.geoms) == pytest.approx([-180, 179.98])
    table = geopandas.read_file(tmp_path / "out" / "scene.gpkg", layer="scene")
    np.testing.assert_allclose(table.total_bounds, (179.98, 9.96, 180.02, 9.98), atol=1e-6)
    assert feature["properties"]["area_m2"] == pytest.approx(4385.97 * 2212.15, rel=1e-3)
    assert feature["properties"]["bearing"] == pytest.approx(90, abs=0.01)


def test_a_dry_run_counts_what_a_run_does(models, tmp_path):
    scene = save(tmp_path / "scene.tif", rectangle())
    options = PredictOptions(window=64, overlap=16, formats=("tif",))
    (plan,) = plan_scenes([models["segmentation"]], [scene], options)
    (done,) = predict(models["segmentation"], [scene], tmp_path / "out", options)
    assert plan.windows == done.windows == 9
    assert plan.read_bytes == 9 * 64 * 64 * 3
    assert (plan.width, plan.height, plan.crs, plan.gsd) == (SIDE, SIDE, "EPSG:32633", 0.5)
    assert plan.memory_bytes > 64 * 64 * 3 and plan.seconds > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "scene.tif"]


@pytest.mark.parametrize("kind", ["segmentation", "detection"])
def test_a_dry_run_counts_the_windows_of_the_area(models, tmp_path, kind):
    scene = save(tmp_path / "scene.tif", rectangle())
    area = "500000.25,5199980.75,500010.25,5200000.75"
    options = PredictOptions(window=48, overlap=8, aoi=area, picture=False)
    (plan,) = plan_scenes([models[kind]], [scene], options)
    (done,) = predict(models[kind], [scene], tmp_path / "out", options)
    assert plan.windows == done.windows < 9
    assert plan.read_bytes == plan.windows * 48 * 48 * 3


def test_more_classes_than_a_map_has_values(tmp_path):
    model = WindowModel(write_run(tmp_path / "run", "segmentation", 256), device="cpu")
    scene = save(tmp_path / "scene.tif", rectangle())
    with pytest.raises(ConfigError, match="room for 255 classes, the model has 256"):
        predict(model, [scene], tmp_path / "out")


def test_more_than_65535_objects_keep_their_numbers(tmp_path):
    from rsfoundation.io.georeference import GeoReference
    from rsfoundation.io.vectors import Features, write_vectors

    count = 70_000
    left, top = np.arange(count) % 300 * 4.0, np.arange(count) // 300 * 4.0
    names = np.full(count, "ship", dtype=object)
    features = Features(shapely.box(left, top, left + 2, top + 2), {"class": names})
    reference = GeoReference("EPSG:32633", (0.5, 0, 500000, 0, -0.5, 5200000), (0.5, 0.5))
    write_vectors(features, reference, tmp_path / "a.gpkg", format_="gpkg", layer="a")
    table = geopandas.read_file(tmp_path / "a.gpkg", layer="a")
    assert table["id"].tolist() == list(range(1, count + 1))
    assert table.bounds["minx"].tolist() == (500000 + left / 2).tolist()
