"""A cache keeps maps whole through crashes, and names what is damaged or foreign."""

import json

import numpy as np
import pytest

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.io.feature_cache import FeatureCache, FeatureWriter, packed, packed_bytes, unpacked

DESCRIPTION = dict(teacher="ab", preprocessing=dict(mean=[1.0]), channels=3, format="int8")


def maps(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return {f"{index:02d}": rng.normal(size=(3, 4, 5)).astype(np.float32) for index in range(count)}


@pytest.mark.parametrize(("form", "error"), [("int8", 0.005), ("fp16", 1e-3), ("fp32", 0)])
def test_formats_keep_maps_within_their_precision(form, error):
    one = maps()["00"] * np.array([1, 100, 0], np.float32)[:, None, None]
    content = packed(one, form)
    assert len(content) == packed_bytes(one.shape, form)
    limit = error * np.abs(one).max((1, 2), keepdims=True)
    assert (np.abs(unpacked(content, one.shape, form) - one) <= limit + 1e-30).all()


def test_int8_needs_less_than_a_third_of_fp32():
    assert packed_bytes((256, 32, 32), "int8") < 0.3 * packed_bytes((256, 32, 32), "fp32")


def test_a_cut_anywhere_loses_only_the_last_maps(tmp_path):
    """Whatever a killed writer left of its files, the maps before are whole, and the rest is added again."""
    whole = tmp_path / "whole"
    writer = FeatureWriter(whole, DESCRIPTION)
    for key, one in maps().items():
        writer.add({key: one})
    shard, index = (whole / "part0-00000.bin").read_bytes(), (whole / "part0.jsonl").read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(20):
        place = tmp_path / str(trial)
        FeatureWriter(place, DESCRIPTION)
        lines = int(rng.integers(len(index)))
        # the shard is on the disk before the index names it; a partly written map may follow
        needed = sum(json.loads(line)[3] for line in index[:lines].split(b"\n")[:-1])
        (place / "part0.jsonl").write_bytes(index[:lines])
        (place / "part0-00000.bin").write_bytes(shard[: rng.integers(needed, len(shard) + 1)])
        again = FeatureWriter(place, DESCRIPTION)
        assert len(again.cache) == index[:lines].count(b"\n") and not again.damaged
        again.add({key: one for key, one in maps().items() if key not in again})
        cache = FeatureCache(place)
        for key, one in maps().items():
            assert np.allclose(cache.read(key), one, atol=0.02)


def test_a_flipped_bit_and_a_short_shard_are_named_and_computed_again(tmp_path):
    FeatureWriter(tmp_path, DESCRIPTION).add(maps())
    file = tmp_path / "part0-00000.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 4
    file.write_bytes(content[:-10])
    cache = FeatureCache(tmp_path)
    with pytest.raises(DataError, match="damaged") as raised:
        cache.read("01")
    assert "part0-00000.bin" in raised.value.where and "rsf prepare features" in raised.value.fix
    assert [*cache.damaged()] == ["01", "05"]
    writer = FeatureWriter(tmp_path, DESCRIPTION)
    assert writer.damaged == 2 and "01" not in writer and "00" in writer
    writer.add({key: maps()[key] for key in ("01", "05")})
    assert not [*FeatureCache(tmp_path).damaged()]


@pytest.mark.parametrize(
    ("name", "value"),
    [("teacher", "cd"), ("preprocessing", dict(mean=[2.0])), ("format", "fp16")],
)
def test_another_teacher_or_preprocessing_is_refused_by_name(name, value, tmp_path):
    FeatureWriter(tmp_path, DESCRIPTION)
    with pytest.raises(DataError, match=f"another {name}"):
        FeatureWriter(tmp_path, {**DESCRIPTION, name: value})


def test_an_unknown_image_and_no_cache_are_errors(tmp_path):
    FeatureWriter(tmp_path / "one", DESCRIPTION).add(maps())
    with pytest.raises(DataError, match="no features of this image"):
        FeatureCache(tmp_path / "one").read("zz")
    with pytest.raises(DataError, match="no feature cache"):
        FeatureCache(tmp_path / "two")
    with pytest.raises(ConfigError, match="format"):
        FeatureWriter(tmp_path / "three", {**DESCRIPTION, "format": "int4"})


def test_two_parts_fill_one_cache(tmp_path):
    both = maps()
    for part in ("part0of2", "part1of2"):
        chosen = {key: one for key, one in both.items() if int(key) % 2 == int(part[4])}
        FeatureWriter(tmp_path, DESCRIPTION, part).add(chosen)
    assert FeatureCache(tmp_path).entries.keys() == both.keys()
