"""What honest checkpoints hold is read: mmengine's metadata, DeepSpeed's, legacy files, safetensors."""

import argparse
import copy
import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_files import Raw, archive
from mmengine.logging import HistoryBuffer

from rsfoundation.core.errors import CheckpointError
from rsfoundation.io.checkpoints import ALLOWED, read_checkpoint, write_safetensors


def saved(folder, content, **how):
    file = folder / "checkpoint.pth"
    torch.save(content, file, **how)
    return read_checkpoint(file)


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1.5),
        np.float32(2.5),
        np.int64(-3),
        np.bool_(True),
        np.str_("name"),
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["ship", "plane"]),
        np.arange(3, dtype=">i4"),
        argparse.Namespace(lr=0.1),
        slice(1, 5, 2),
        {"a": (1, None, True, 1 << 70, b"bytes", {3})},
        random.Random(1).getstate(),
    ],
    ids=repr,
)
def test_plain_metadata_comes_back(tmp_path, value):
    found = saved(tmp_path, {"meta": value})["meta"]
    assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value
    # and can be saved and read again
    again = saved(tmp_path, {"meta": found})["meta"]
    assert np.array_equal(again, value) if isinstance(value, np.ndarray) else again == value


def test_a_log_of_mmengine_comes_back_whole(tmp_path):
    buffer = HistoryBuffer()
    for value in (1.0, 2.0, 6.0):
        buffer.update(value)
    found = saved(tmp_path, {"log": buffer})["log"]
    for item in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert isinstance(item, HistoryBuffer)
        assert item.mean() == 3 and item.statistics("max") == 6 and item.current() == 6
    assert type(copy.deepcopy(found)) is HistoryBuffer


def test_files_are_mapped_not_read(tmp_path):
    file = tmp_path / "big.pth"
    torch.save({"state_dict": {"w": torch.zeros(1 << 20)}}, file)
    weight = read_checkpoint(file)["state_dict"]["w"]
    maps = Path("/proc/self/maps")
    assert not maps.is_file() or str(file) in maps.read_text()
    weight += 1  # a private copy: the file stays as it is
    assert read_checkpoint(file)["state_dict"]["w"].sum() == 0


def test_torch_allows_the_same_types_after_each_reading(tmp_path):
    for _ in range(3):
        saved(tmp_path, {"state_dict": {"w": torch.ones(3)}})
    names = [f"{one.__module__}.{one.__qualname__}" for one in torch.serialization.get_safe_globals()]
    assert len(names) == len(set(names))


def test_bytes_come_back_where_torch_does_not_read_them_itself():
    (encode,) = (one for one in ALLOWED if one.__module__ == "_codecs")
    assert encode("\xff\x00", "latin1") == b"\xff\x00"
    with pytest.raises(pickle.UnpicklingError, match="zip"):
        encode("\xff", "zip")


def test_legacy_files_of_weights_are_read(tmp_path):
    found = saved(tmp_path, {"state_dict": {"w": torch.ones(3)}}, _use_new_zipfile_serialization=False)
    assert torch.equal(found["state_dict"]["w"], torch.ones(3))


def test_what_deepspeed_saves_beside_its_tensors(tmp_path):
    file = tmp_path / "mp_rank_00_model_states.pt"
    scaler = "deepspeed.runtime.fp16.loss_scaler.LossScaler"
    content = {
        "param_shapes": [{"w": (2, 3)}],
        "zero_stage": Raw("deepspeed.runtime.zero.config.ZeroStageEnum", 2),
        "loss_scaler": Raw(scaler, state={"cur_scale": 1.0, "dynamic": False}),
        "slice": Raw("deepspeed.utils.tensor_fragment.fragment_address", state={"numel": 4, "start": 2}),
    }
    archive(file, content)
    found = read_checkpoint(file)
    assert found["zero_stage"] == 2
    assert found["loss_scaler"].cur_scale == 1.0 and found["slice"].numel == 4


def test_safetensors_out_and_in(tmp_path):
    state = {"a.w": torch.randn(3, 4).T, "b": torch.ones(2, dtype=torch.bfloat16)}
    state["tied"] = state["b"]
    meta = {"dataset_meta": {"classes": ["ship"], "palette": [[1, 2, 3]]}}
    file = write_safetensors(state, tmp_path / "model.safetensors", meta)
    found = read_checkpoint(file)
    assert found["meta"] == meta and found["state_dict"].keys() == state.keys()
    assert all(torch.equal(found["state_dict"][name], state[name]) for name in state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors"]


def test_safetensors_in_shards(tmp_path):
    for number in (1, 2):
        write_safetensors({f"w{number}": torch.full((2,), number)}, tmp_path / f"part-{number}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"w{n}": f"part-{n}.safetensors" for n in (1, 2)}}))
    assert sorted(read_checkpoint(index)["state_dict"]) == ["w1", "w2"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pth"):
        read_checkpoint(tmp_path / "gone.pth")
