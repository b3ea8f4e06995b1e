"""Scenes in, georeferenced files out: coordinates to the pixel, no data, names, formats."""

import json
import types

import numpy as np
import pytest
import torch

pytest.importorskip("rasterio")
pytest.importorskip("pyogrio")

import geopandas
import rasterio
import rasterio.shutil
import shapely
from exact_models import write_run
from PIL import Image
from pyproj import Geod
from rasterio.transform import Affine, from_origin

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, predict
from rsfoundation.io.loading import ImageLoading

SIDE = 128
CORNER = from_origin(500000.25, 5200000.75, 0.5, 0.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    kinds = ("segmentation", "change", "detection", "instance")
    return {kind: WindowModel(write_run(root / kind, kind), device="cpu") for kind in kinds}


def land(seed=0, cell=8):
    """Three bands whose first one says the class, none of them 0."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 7, (SIDE // cell, SIDE // cell)), np.ones((cell, cell), int))
    noise = rng.integers(1, 255, (2, SIDE, SIDE))
    return labels.astype(np.uint8), np.concatenate([labels[None] * 30 + 5, noise]).astype(np.uint8)


def save(path, bands, crs="EPSG:32633", transform=CORNER, driver="GTiff", **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    shape = dict(driver=driver, height=height, width=width, count=count, dtype=bands.dtype)
    with rasterio.open(path, "w", **shape, crs=crs, transform=transform, **profile) as file:
        file.write(bands)
    return path


def rectangle(left=10, top=20, right=30, bottom=40, label=0):
    bands = np.zeros((3, SIDE, SIDE), np.uint8)
    bands[0, top:bottom, left:right] = (label + 1) * 30
    bands[1] = 200
    return bands


@pytest.mark.parametrize("driver", ["GTiff", "VRT", "JP2OpenJPEG"])
def test_class_map_has_the_scene_s_crs_and_transform(models, tmp_path, driver):
    labels, bands = land()
    scene = save(tmp_path / "scene.tif", bands)
    if driver != "GTiff":
        options = dict(QUALITY="100", REVERSIBLE="YES") if driver == "JP2OpenJPEG" else {}
        other = tmp_path / ("scene.vrt" if driver == "VRT" else "scene.jp2")
        rasterio.shutil.copy(scene, other, driver=driver, **options)
        scene = other
    predict(models["segmentation"], [scene], tmp_path / "out", PredictOptions(formats=("tif",)))
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        assert made.crs.to_epsg() == 32633
        assert made.transform == CORNER
        assert made.nodata == 255 and made.colormap(1)[1][:3] == models["segmentation"].classes.palette[1]
        np.testing.assert_array_equal(made.read(1), labels)


@pytest.mark.parametrize("kind", ["detection", "instance"])
def test_objects_are_in_pixel_edges(models, tmp_path, kind):
    scene = save(tmp_path / "scene.tif", rectangle())
    (done,) = predict(models[kind], [scene], tmp_path / "out")
    assert [file.suffix for file in done.files] == [".png", ".gpkg", ".qml"]
    table = geopandas.read_file(tmp_path / "out" / "scene.gpkg", layer="scene")
    assert table.crs.to_epsg() == 32633 and len(table) == 1
    np.testing.assert_allclose(table.total_bounds, (500005.25, 5199980.75, 500015.25, 5199990.75), atol=1e-4)
    row = table.iloc[0]
    assert row["class"] == "class0" and row["id"] == 1 and row["score"] == pytest.approx(200 / 255)
    assert row["area_m2"] == pytest.approx(100 / 0.9996**2, rel=1e-4)  # the zone's scale on its meridian


def test_polygons_of_a_map_tile_it_without_gaps(models, tmp_path):
    labels, bands = land()
    scene = save(tmp_path / "scene.tif", bands)
    predict(models["segmentation"], [scene], tmp_path / "out", PredictOptions(formats=("gpkg",)))
    table = geopandas.read_file(tmp_path / "out" / "scene.gpkg", layer="scene")
    assert table.is_valid.all()
    assert table["pixels"].sum() == SIDE * SIDE
    assert shapely.area(shapely.union_all(table.geometry)) == pytest.approx(SIDE * SIDE / 4)
    for name, part in table.groupby("class"):
        assert part["pixels"].sum() == (labels == int(name[-1])).sum()
    assert not (tmp_path / "out" / "scene.tif").exists()


def test_simplified_polygons_leave_no_gaps(models, tmp_path):
    rng = np.random.default_rng(3)
    coarse = rng.random((9, 9)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    labels = np.digitize(smooth, (0.3, 0.5, 0.7))
    bands = np.stack([labels * 30 + 5, *rng.integers(1, 255, (2, SIDE, SIDE))]).astype(np.uint8)
    scene = save(tmp_path / "scene.tif", bands)
    found = {}
    for simplify in (0.0, 2.0):
        out = tmp_path / f"out{simplify}"
        predict(models["segmentation"], [scene], out, PredictOptions(formats=("gpkg",), simplify=simplify))
        found[simplify] = geopandas.read_file(out / "scene.gpkg", layer="scene")
    corners = {key: shapely.get_num_coordinates(table.geometry.values).sum() for key, table in found.items()}
    assert corners[2.0] < 0.6 * corners[0.0]
    table = found[2.0]
    assert table.is_valid.all()
    assert shapely.area(shapely.union_all(table.geometry)) == pytest.approx(SIDE * SIDE / 4, rel=1e-6)
    assert table.area.sum() == pytest.approx(SIDE * SIDE / 4, rel=1e-6)  # nor do they overlap


def test_no_data_needs_all_bands_and_counts_nowhere(models, tmp_path):
    labels, bands = land()
    bands[:, :, :24] = 0
    bands[1:, 60, 60] = 0  # two of three bands: data
    scene = save(tmp_path / "scene.tif", bands, nodata=0)
    (done,) = predict(
        models["segmentation"],
        [scene],
        tmp_path / "out",
        PredictOptions(formats=("tif", "json", "png", "gpkg")),
    )
    content = json.loads((tmp_path / "out" / "scene.json").read_text())["classes"]
    assert sum(item["pixels"] for item in content.values()) == 13_312
    assert sum(item["share"] for item in content.values()) == pytest.approx(1)
    assert sum(done.areas_m2.values()) == pytest.approx(13_312 / 4)
    with rasterio.open(tmp_path / "out" / "scene.tif") as made:
        values = made.read(1)
    assert (values[:, :24] == 255).all()
    np.testing.assert_array_equal(values[:, 24:], labels[:, 24:])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "scene.png")), values)
    table = geopandas.read_file(tmp_path / "out" / "scene.gpkg", layer="scene")
    assert table["pixels"].sum() == 13_312


def test_empty_windows_are_skipped_and_counted(models, tmp_path):
    _, bands = land()
    bands[:, :, :80] = 0
    scene = save(tmp_path / "scene.tif", bands, nodata=0)
    options = PredictOptions(window=32, overlap=0, formats=("tif",))
    (done,) = predict(models["segmentation"], [scene], tmp_path / "out", options)
    assert (done.windows, done.empty_windows) == (16, 8)
    bands[:] = 0
    (done,) = predict(
        models["segmentation"], [save(tmp_path / "nothing.tif", bands, nodata=0)], tmp_path / "out", options
    )
    assert done.empty_windows == 16 and done.summary == {}


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(1e-5, 0, 12.5, 0, -1e-5, 48.25)),
        ("EPSG:32633", Affine(0.5, 0, 500000.25, 0, 0.5, 5199936.75)),  # south up
        ("EPSG:32633", Affine(0.3, 0.4, 500000.25, 0.4, -0.3, 5200000.75)),  # rotated
        ("EPSG:32633", Affine(0, 0.5, 500000.25, 0.5, 0, 5200000.75)),  # a and e are 0
        (None, Affine(2, 0, 100, 0, -2, 300)),
    ],
)
def test_transforms_are_carried_into_rasters_and_vectors(models, tmp_path, crs, transform):
    scene = save(tmp_path / "scene.tif", rectangle(), crs=crs, transform=transform)
    for kind, file in (("segmentation", "tif"), ("instance", "gpkg")):
        predict(models[kind], [scene], tmp_path / kind, PredictOptions(formats=(file,)))
    with rasterio.open(tmp_path / "segmentation" / "scene.tif") as made:
        assert made.transform.almost_equals(transform, 1e-12) and made.crs == crs
    table = geopandas.read_file(tmp_path / "instance" / "scene.gpkg", layer="scene")
    corners = [transform * point for point in ((10, 20), (30, 20), (30, 40), (10, 40))]
    expected = shapely.Polygon(corners)
    assert table.geometry[0].symmetric_difference(expected).area < 1e-6 * expected.area
    assert (table.crs is None) == (crs is None)
    assert np.isnan(table["area_m2"][0]) == (crs is None)


def test_geojson_is_rfc_7946(models, tmp_path):
    scene = save(tmp_path / "scene.tif", rectangle())
    predict(models["detection"], [scene], tmp_path / "out", PredictOptions(formats=("geojson", "gpkg")))
    content = json.loads((tmp_path / "out" / "scene.geojson").read_text())
    assert "crs" not in content
    (feature,) = content["features"]
    ring = shapely.LinearRing(feature["geometry"]["coordinates"][0])
    assert ring.is_ccw and ring.is_closed
    assert 14.99 < ring.bounds[0] < 15.01 and 46.9 < ring.bounds[1] < 47  # longitude comes first
    table = geopandas.read_file(tmp_path / "out" / "scene.gpkg", layer="scene")
    assert feature["properties"]["area_m2"] == pytest.approx(table["area_m2"][0], rel=1e-9)


def test_without_a_crs_geojson_is_refused_and_others_are_not(models, tmp_path):
    scene = save(tmp_path / "scene.tif", rectangle(), crs=None, transform=None)
    with pytest.raises(ConfigError, match="no CRS"):
        predict(models["detection"], [scene], tmp_path / "out", PredictOptions(formats=("geojson",)))
    (done,) = predict(models["detection"], [scene], tmp_path / "plain")
    assert sorted(file.suffix for file in done.files) == [".json", ".png", ".txt"]


def test_every_vector_format_reads_back(models, tmp_path):
    scene = save(tmp_path / "scene.tif", rectangle() + rectangle(60, 70, 100, 80, label=2))
    kinds = ("gpkg", "geojson", "parquet", "fgb", "shp")
    predict(models["detection"], [scene], tmp_path / "out", PredictOptions(formats=kinds))
    for kind in kinds:
        file = tmp_path / "out" / f"scene.{kind}"
        table = geopandas.read_parquet(file) if kind == "parquet" else geopandas.read_file(file)
        table = table.sort_values("id").reset_index(drop=True)
        assert table["class"].tolist() == ["class0", "class2"] or kind == "shp", kind
        assert set(table["class"]) == {"class0", "class2"}
        assert table.to_crs("EPSG:32633").area.tolist() == pytest.approx([100, 100], rel=1e-3)
        assert table["bearing"].between(0, 180, inclusive="left").all()


def test_bearing_and_sides_are_geodesic(models, tmp_path):
    scene = save(
        tmp_path / "scene.tif", rectangle(10, 20, 70, 30), transform=from_origin(640000, 6400000, 10, 10)
    )
    predict(models["detection"], [scene], tmp_path / "out")
    table = geopandas.read_file(tmp_path / "out" / "scene.gpkg", layer="scene")
    degrees = table.to_crs("EPSG:4326").geometry[0]
    (ax, ay), (bx, by), (cx, cy) = list(degrees.exterior.coords)[:3]
    geod = Geod(ellps="WGS84")
    sides = sorted([geod.inv(ax, ay, bx, by)[2], geod.inv(bx, by, cx, cy)[2]])
    assert [table["width_m"][0], table["length_m"][0]] == pytest.approx(sides, rel=1e-4)
    assert table["area_m2"][0] == pytest.approx(abs(geod.geometry_area_perimeter(degrees)[0]), rel=1e-6)
    assert table["bearing"][0] == pytest.approx(90 + 2.0, abs=0.5)  # the zone's grid is turned there


def test_inputs_folders_stay_as_they_are(models, tmp_path):
    _, bands = land()
    save(tmp_path / "in" / "scene.tif", bands, nodata=0)
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "in").iterdir()}
    options = PredictOptions(formats=("tif", "gpkg", "html"), stretch="2,98")
    predict(models["segmentation"], [tmp_path / "in"], tmp_path / "out", options)
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "in").iterdir()} == before


def test_equal_stems_of_two_folders_give_two_results(models, tmp_path):
    for folder in ("north", "south"):
        save(tmp_path / folder / "scene.tif", rectangle())
    done = predict(models["detection"], [tmp_path / "north", tmp_path / "south"], tmp_path / "out")
    assert [scene.name for scene in done] == ["north_scene", "south_scene"]
    assert len(list((tmp_path / "out").glob("*.gpkg"))) == 2


def test_one_scene_goes_to_one_named_file(models, tmp_path):
    scene = save(tmp_path / "scene.tif", rectangle())
    (done,) = predict(models["detection"], [scene], tmp_path / "ships.gpkg")
    assert done.files[0] == tmp_path / "ships.gpkg" and (tmp_path / "ships.gpkg").is_file()
    assert not list(tmp_path.glob("*.png"))
    other = save(tmp_path / "other.tif", rectangle())
    with pytest.raises(ConfigError, match="one file"):
        predict(models["detection"], [scene, other], tmp_path / "both.gpkg")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(crs="EPSG:32632"), "different CRS"),
        (dict(transform=from_origin(512000.25, 5200000.75, 0.5, 0.5)), r"24000 pixels apart \(12000 m\)"),
        (dict(transform=from_origin(500000.5, 5200000.75, 0.5, 0.5)), "0.5 pixels"),
        (dict(size=100), "differ in size"),
    ],
)
def test_dates_that_do_not_match_are_refused_with_the_difference(models, tmp_path, change, message):
    _, bands = land()
    change = dict(change)
    size = change.pop("size", SIDE)
    before = save(tmp_path / "before.tif", bands)
    after = save(tmp_path / "after.tif", bands[:, :size], **change)
    with pytest.raises(DataError, match=message):
        predict(models["change"], [before, after], tmp_path / "out")


def test_change_between_two_dates(models, tmp_path):
    _, bands = land()
    later = bands.copy()
    later[0, 30:50, 40:60] = 250
    scenes = [save(tmp_path / "before.tif", bands), save(tmp_path / "after.tif", later)]
    (done,) = predict(models["change"], scenes, tmp_path / "out")
    assert done.summary["changed pixels"] == 400
    with rasterio.open(tmp_path / "out" / "before.tif") as made:
        assert made.read(1).sum() == 400
    table = geopandas.read_file(tmp_path / "out" / "before.gpkg", layer="before")
    assert table["class"].tolist() == ["changed"]  # no polygon of what stayed
    np.testing.assert_allclose(table.total_bounds, (500020.25, 5199975.75, 500030.25, 5199985.75))


def test_probabilities_are_written_where_asked_for(models, tmp_path):
    labels, bands = land()
    bands[:, :, :24] = 0
    scene = save(tmp_path / "scene.tif", bands, nodata=0)
    predict(
        models["segmentation"], [scene], tmp_path / "out", PredictOptions(formats=("probabilities", "tif"))
    )
    with rasterio.open(tmp_path / "out" / "scene_probabilities.tif") as made:
        assert made.descriptions == models["segmentation"].classes.names
        assert made.transform == CORNER and made.nodata == 255
        shares = made.read() * made.scales[0]
    np.testing.assert_array_equal(shares[:, :, 24:].argmax(axis=0), labels[:, 24:])
    np.testing.assert_allclose(shares[:, :, 24:].sum(axis=0), 1, atol=0.01)


def test_other_scenes_continue_when_one_is_broken(models, tmp_path):
    good = save(tmp_path / "good.tif", rectangle())
    broken = tmp_path / "broken.tif"
    broken.write_bytes(good.read_bytes()[:20_000])
    last = save(tmp_path / "last.tif", rectangle())
    done = predict(models["detection"], [broken, good, last], tmp_path / "out")
    assert [scene.error is None for scene in done] == [False, True, True]
    assert "broken.tif" in str(done[0].error)
    assert not list((tmp_path / "out").glob(".*broken*/**/*.npz"))


def test_a_scene_of_other_bands_is_named_and_the_others_continue(models, tmp_path, monkeypatch):
    model = models["detection"]
    preprocessor = types.SimpleNamespace(mean=torch.zeros(3, 1, 1))
    network = types.SimpleNamespace(data_preprocessor=preprocessor, test_step=model.network.test_step)
    monkeypatch.setattr(model, "network", network)
    good = save(tmp_path / "good.tif", rectangle())
    odd = save(tmp_path / "odd.tif", np.concatenate([rectangle(), rectangle()[:1]]))
    done = predict(model, [odd, good], tmp_path / "out", loading=ImageLoading(bands="all"))
    assert "has 4 bands" in done[0].error.what and done[0].error.where == str(odd)
    assert done[1].error is None and done[1].files


def test_a_one_pixel_scene(models, tmp_path):
    scene = save(tmp_path / "dot.tif", np.full((3, 1, 1), 65, np.uint8))
    (done,) = predict(models["segmentation"], [scene], tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "dot.tif") as made:
        assert made.read(1).tolist() == [[2]]
    assert done.windows == 1


def test_the_geopackage_opens_with_its_style(models, tmp_path):
    import sqlite3
    from xml.etree import ElementTree

    scene = save(tmp_path / "scene.tif", rectangle())
    predict(models["detection"], [scene], tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "scene.gpkg") as base:
        rows = base.execute("SELECT f_table_name, useAsDefault, styleQML FROM layer_styles").fetchall()
    base.close()
    ((table, default, style),) = rows
    assert (table, default) == ("scene", 1)
    assert style == (tmp_path / "out" / "scene.qml").read_text()
    root = ElementTree.fromstring(style.split("\n", 1)[1])
    names = [category.get("value") for category in root.iter("category")]
    assert names == list(models["detection"].classes.names)


@pytest.mark.parametrize(
    ("kind", "scene", "label", "content"),
    [
        ("detection", "val/images/a.png", "val/labelTxt/a.txt", b"1 2 3 not a label\n"),
        ("detection", "val/images/a.png", "val/labelTxt/a.txt", b"\xff\xfe\x00bad"),
        ("segmentation", "img_dir/val/a.png", "label_dir/val/a.png", b"\x89PNG broken"),
        ("instance", "val/a.png", "annotations/instances_val.json", b'{"images": [{"file_name": "a.png"}]}'),
        ("instance", "val/a.png", "annotations/instances_val.json", b"{broken"),
    ],
)
def test_a_broken_label_file_next_to_a_scene_stops_nothing(models, tmp_path, kind, scene, label, content):
    for file in (scene, label):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.moveaxis(rectangle(), 0, 2)).save(tmp_path / scene)
    (tmp_path / label).write_bytes(content)
    (done,) = predict(models[kind], [tmp_path / scene], tmp_path / "out")
    assert done.error is None and len(done.files) >= 2
    assert not any("comparison" in file.name for file in done.files)


def test_a_broken_change_label_stops_nothing(models, tmp_path):
    for folder in ("A", "B"):
        (tmp_path / "val" / folder).mkdir(parents=True)
        Image.fromarray(np.moveaxis(rectangle(), 0, 2)).save(tmp_path / "val" / folder / "a.png")
    (tmp_path / "val" / "label").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "val" / "label" / "a.png")  # another size
    scenes = [tmp_path / "val" / "A" / "a.png", tmp_path / "val" / "B" / "a.png"]
    (done,) = predict(models["change"], scenes, tmp_path / "out")
    assert done.error is None and not any("comparison" in file.name for file in done.files)
