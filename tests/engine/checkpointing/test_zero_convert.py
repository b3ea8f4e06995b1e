"""Converting ZeRO folders made in code: layouts, forms of output, and what is said of broken ones."""

import json
import os
import shutil
import sys

import pytest
import torch
from locations import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))

from zero_to_fp32 import make_checkpoint, make_shapes

from rsfoundation.core.errors import CheckpointError
from rsfoundation.engine.checkpointing.zero_conversion import convert_zero, find_zero_folder
from rsfoundation.engine.checkpointing.zero_layout import read_zero_folder
from rsfoundation.io.checkpoints import read_checkpoint

SHAPES = make_shapes(2000, largest=400)


@pytest.fixture(params=[(1, 2), (2, 3), (3, 1), (3, 4)], ids=lambda pair: "zero{}-ranks{}".format(*pair))
def made(request, tmp_path):
    stage, ranks = request.param
    make_checkpoint(tmp_path / "run" / "step_5", SHAPES, stage, ranks)
    return tmp_path / "run" / "step_5"


@pytest.fixture
def folder(tmp_path):
    make_checkpoint(tmp_path / "run" / "step_5", SHAPES, 3, 3)
    return tmp_path / "run" / "step_5"


def _expected(folder):
    """Put the weights together in the plainest way."""
    files = sorted(folder.glob("*_optim_states.pt"))
    states = [torch.load(file)["optimizer_state_dict"] for file in files]
    whole = {}
    if states[0]["zero_stage"] == 3:
        start = 0
        for name, shape in SHAPES.items():
            share = -(-shape.numel() // len(states))
            parts = [state["fp32_flat_groups"][0][start : start + share] for state in states]
            whole[name] = torch.cat(parts)[: shape.numel()].view(shape)
            start += share
        return whole
    flat = torch.cat([state["single_partition_of_fp32_groups"][0] for state in states])
    for name, shape in SHAPES.items():
        whole[name], flat = flat[: shape.numel()].view(shape), flat[shape.numel() :]
    return whole


@pytest.mark.parametrize("output", ["out.pth", "out.safetensors", "out"])
def test_every_layout_converts_to_every_form(made, tmp_path, output):
    done = convert_zero(made, tmp_path / output, max_shard_bytes=2500)
    content = read_checkpoint(done.output)
    expected = _expected(made)
    assert set(content["state_dict"]) == {*expected, "seen", "running"}
    assert all(torch.equal(content["state_dict"][name], value) for name, value in expected.items())
    assert content["state_dict"]["seen"].item() == 7
    assert content["meta"]["epoch"] == 1
    if output == "out":
        sizes = [file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors")]
        assert len(sizes) > 2 and done.output.name == "model.safetensors.index.json"


def test_pth_is_what_torch_save_writes(folder, tmp_path):
    done = convert_zero(folder, tmp_path / "out.pth")
    state = torch.load(done.output, weights_only=True, mmap=True)["state_dict"]
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)["state_dict"]
    assert list(state) == list(again) and all(state[key].stride() == again[key].stride() for key in state)


def test_types_and_progress(folder, tmp_path):
    seen = []
    done = convert_zero(
        folder, tmp_path / "o.pth", dtype="bfloat16", progress=lambda *pair: seen.append(pair)
    )
    state = read_checkpoint(done.output)["state_dict"]
    assert state["running"].dtype == torch.bfloat16 and state["seen"].dtype == torch.int64
    assert seen[-1][0] == seen[-1][1] == sum(value.numel() * value.element_size() for value in state.values())


@pytest.mark.parametrize("output", ["out.pth", "out.safetensors", "out"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_entries_without_elements_keep_their_shape(tmp_path, stage, output):
    """A trained parameter, a frozen one and a buffer: DeepSpeed's own script converts them."""
    empty = torch.empty(0, 4)
    make_checkpoint(tmp_path / "step_1", SHAPES | {"trained": empty.shape}, stage, 2)
    for file in tmp_path.glob("step_1/*model_states.pt"):
        content = torch.load(file)
        content["module"] |= {"buffer": empty, "frozen": empty}
        content["buffer_names"].append("buffer")
        content["frozen_param_shapes"] = {"frozen": empty.shape}
        content["frozen_param_fragments"] = {"frozen": torch.empty(0)}
        torch.save(content, file)
    done = convert_zero(tmp_path / "step_1", tmp_path / output)
    state = read_checkpoint(done.output)["state_dict"]
    assert [state[name].shape for name in ("trained", "frozen", "buffer")] == [empty.shape] * 3
    assert len(state) == len(SHAPES) + 5
    whole = read_zero_folder(tmp_path / "step_1")["state_dict"]
    assert all(torch.equal(state[name], value) for name, value in whole.items())


def test_only_adapters(folder, tmp_path):
    with pytest.raises(CheckpointError, match="adapters"):
        convert_zero(folder, tmp_path / "out.pth", only="adapters")
    assert not (tmp_path / "out.pth").exists()


def test_a_run_folder_needs_its_tag_or_a_note_of_the_newest(folder):
    run = folder.parent
    shutil.copytree(folder, run / "step_10")
    assert find_zero_folder(run, "step_10") == run / "step_10"
    with pytest.raises(CheckpointError, match="step_10, step_5"):
        find_zero_folder(run)
    (run / "latest").write_text("step_5")
    assert find_zero_folder(run) == folder
    with pytest.raises(CheckpointError, match="did you mean 'step_10'"):
        find_zero_folder(run, "step_100")
    with pytest.raises(CheckpointError, match="no such folder"):
        find_zero_folder(run / "nowhere")


def test_missing_ranks_are_named(folder, tmp_path):
    (folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    with pytest.raises(CheckpointError, match="optim states of rank 1 are missing"):
        convert_zero(folder, tmp_path / "out.pth")
    (folder / "zero_pp_rank_2_mp_rank_00_optim_states.pt").unlink()
    with pytest.raises(CheckpointError, match="written by 3 ranks, the folder holds the files of 1"):
        convert_zero(folder, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_a_cut_file_is_named(folder, tmp_path):
    file = folder / "zero_pp_rank_2_mp_rank_00_optim_states.pt"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(CheckpointError, match=file.name):
        convert_zero(folder, tmp_path / "out.pth")


def test_a_file_that_cannot_be_mapped_is_named(folder, tmp_path):
    file = folder / "zero_pp_rank_2_mp_rank_00_optim_states.pt"
    torch.save(torch.load(file), file, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="no zip archive"):
        convert_zero(folder, tmp_path / "out.pth")


def test_files_of_two_runs_are_noticed(folder, tmp_path):
    file = folder / "zero_pp_rank_2_mp_rank_00_optim_states.pt"
    content = torch.load(file)
    flat = content["optimizer_state_dict"]["fp32_flat_groups"]
    content["optimizer_state_dict"]["fp32_flat_groups"] = [flat[0][:-7].clone()]
    torch.save(content, file)
    with pytest.raises(CheckpointError, match="two runs are mixed"):
        convert_zero(folder, tmp_path / "out.pth")


class _Hostile:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def test_a_hostile_shard_is_refused_and_not_run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"optimizer_state_dict": _Hostile()}, folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt")
    with pytest.raises(CheckpointError, match="rank_1"):
        convert_zero(folder, tmp_path / "out.pth")
    assert not (tmp_path / "owned").exists()


def test_averages_where_there_are_none(folder):
    assert set(read_zero_folder(folder)["state_dict"]) > set(SHAPES)
    with pytest.raises(CheckpointError, match="no moving averages"):
        read_zero_folder(folder, averaged=True)


def test_the_recipe_that_users_know(folder, monkeypatch, capsys):
    from rsfoundation.cli import main

    monkeypatch.chdir(folder.parent)
    with pytest.raises(SystemExit) as done:
        main(["convert", "zero-to-fp32", ".", "../out.pth", "-t", "step_5"])
    assert done.value.code == 0
    assert "ZeRO 3, 3 ranks" in capsys.readouterr().out.replace("\n", " ")
    assert len(read_checkpoint("../out.pth")["state_dict"]) == len(SHAPES) + 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_peak_memory_of_four_gigabytes(tmp_path):
    from zero_to_fp32 import main

    sys.argv = ["zero_to_fp32.py", "--gb", "4", "--work", str(tmp_path), "--json", str(tmp_path / "out.json")]
    main()
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["largest_difference"] == 0
    assert all(row["peak_gib"] < 1.5 for name, row in report["rows"].items() if name.startswith("rsf"))
