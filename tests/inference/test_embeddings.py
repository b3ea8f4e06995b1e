"""Embeddings of images and of cells of scenes."""

import numpy as np
import pytest
import torch
from locations import ROOT
from recognition_run import coloured, make_images, make_run

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.inference.embeddings import EmbeddingModel, EmbeddingOptions, embed_scenes
from rsfoundation.models.classifiers import pool


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("scenes"), count=2)


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, make_run(folder, scenes)[1].eval()


def write_scene(path, nodata=None):
    """150 x 200 pixels of 2 m: water on the left, field on the right; the first cell may hold no data."""
    import rasterio

    image = np.concatenate([coloured("water", 200)[:150, :100], coloured("field", 200)[:150, 100:]], axis=1)
    image = np.maximum(image, 1)
    if nodata is not None:
        image[:64, :64] = nodata
    transform = rasterio.Affine(2, 0, 500_000, 0, -2, 5_000_000)
    profile = dict(
        driver="GTiff", width=200, height=150, count=3, dtype="uint8", crs="EPSG:32633", nodata=nodata
    )
    with rasterio.open(path, "w", **profile, transform=transform) as made:
        made.write(image.transpose(2, 0, 1))
    return image


def direct(model, image):
    batch = dict(inputs=[torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)], data_samples=None)
    with torch.no_grad():
        return pool(model.backbone(model.data_preprocessor(batch, False)["inputs"]))[0].numpy()


def test_a_scene_becomes_a_raster_and_a_table_of_cells(trained, tmp_path):
    import pyarrow.parquet as pq
    import rasterio

    folder, model = trained
    image = write_scene(tmp_path / "scene.tif", nodata=0)
    options = EmbeddingOptions(cell=64, batch_size=3)
    done, files = embed_scenes(
        EmbeddingModel(folder, device="cpu"), [tmp_path / "scene.tif"], tmp_path / "o", options
    )
    assert (done[0].rows, done[0].columns, done[0].empty) == (3, 4, 1)
    assert [file.name for file in files] == ["scene_embeddings.tif", "embeddings.parquet"]
    with rasterio.open(files[0]) as raster:
        grid = raster.read()
        assert raster.transform == rasterio.Affine(128, 0, 500_000, 0, -128, 5_000_000)
        assert raster.crs.to_epsg() == 32633 and grid.shape == (256, 3, 4)
    assert np.isnan(grid[:, 0, 0]).all() and np.isfinite(grid).sum() == 256 * 11
    np.testing.assert_allclose(grid[:, 1, 2], direct(model, image[64:128, 128:192]), rtol=1e-3, atol=1e-4)
    # the last cell is moved inside the scene
    np.testing.assert_allclose(grid[:, 2, 3], direct(model, image[86:150, 136:200]), rtol=1e-3, atol=1e-4)
    table = pq.read_table(files[1]).to_pandas()
    assert len(table) == 11 and set(table.scene) == {"scene"} and set(table.crs) == {"EPSG:32633"}
    row = table[(table.row == 1) & (table.column == 2)].iloc[0]
    assert (row.xmin, row.ymax, row.xmax, row.ymin) == (500_256, 4_999_872, 500_384, 4_999_744)
    np.testing.assert_array_equal(np.stack(row.embedding), grid[:, 1, 2])
    last = table[(table.row == 2) & (table.column == 3)].iloc[0]
    assert (last.xmax, last.ymin) == (500_400, 4_999_700), "cells end with the scene"


def test_every_image_of_a_folder_is_a_line(trained, scenes, tmp_path):
    import pyarrow.parquet as pq

    folder, model = trained
    inputs = [scenes / "val" / "field", scenes / "val" / "water"]
    done, files = embed_scenes(EmbeddingModel(folder, device="cpu"), inputs, tmp_path)
    assert len(done) == 4 and [file.name for file in files] == ["embeddings.parquet"]
    table = pq.read_table(files[0]).to_pandas()
    assert len(table) == 4 and table.crs.isna().all() and table.xmin.isna().all()
    np.testing.assert_allclose(
        np.stack(table.embedding[0]), direct(model, coloured("field", seed=100)), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    "name", ["pretraining_toy_lsknet_t", "segmentation_toy_lsknet_t", "detection_toy_lsknet_t"]
)
def test_backbones_of_other_tasks_embed(name, scenes, tmp_path):
    """A pretraining config has no test data; its training pipeline says how images are loaded."""
    from mmengine.registry import MODELS, init_default_scope

    from rsfoundation.engine.config import load_config
    from rsfoundation.engine.resolve_config import drop_sync_bn

    cfg = load_config(ROOT / "configs" / "quickstart" / f"{name}.py")
    cfg.dump(tmp_path / "config.py")
    drop_sync_bn(cfg)
    init_default_scope(cfg.default_scope)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(), meta={}), tmp_path / "epoch_1.pth")
    model = EmbeddingModel(tmp_path / "epoch_1.pth", device="cpu")
    done, _ = embed_scenes(
        model, [scenes / "val" / "field"], tmp_path / "out", EmbeddingOptions(formats=("parquet",))
    )
    assert len(done) == 2


def test_what_cannot_be_embedded_is_named(trained, scenes, tmp_path):
    import rasterio

    folder, _ = trained
    model = EmbeddingModel(folder, device="cpu")
    with pytest.raises(ConfigError, match="written as 'gpkg'"):
        embed_scenes(model, [scenes / "val" / "field"], tmp_path, EmbeddingOptions(formats=("gpkg",)))
    profile = dict(driver="GTiff", width=100, height=100, count=3, dtype="uint8", nodata=0)
    with rasterio.open(tmp_path / "empty.tif", "w", **profile) as made:
        made.write(np.zeros((3, 100, 100), np.uint8))
    with pytest.raises(DataError, match="holds no data"):
        embed_scenes(model, [tmp_path / "empty.tif"], tmp_path / "o", EmbeddingOptions(cell=50))
    assert not list((tmp_path / "o").iterdir()), "no half of a file is left"
    with pytest.raises(ConfigError, match="4 bands"):
        model.embed([np.zeros((32, 32, 4), np.uint8)])
