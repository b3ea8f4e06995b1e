"""Models and backbones by name, counted and timed."""

import pytest
import torch
from typer.testing import CliRunner

from rsfoundation.cli.app import app
from rsfoundation.cli.info import weight_rows
from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.benchmark import BenchmarkOptions, benchmark
from rsfoundation.engine.networks import (
    bands_of,
    build_network,
    list_backbones,
    network_complexity,
    network_config,
)


def parts(name, size=(128, 128), overrides=()):
    return {part.name: part for part in network_complexity(name, size, overrides).parts}


def test_a_shipped_backbone_goes_by_the_name_of_its_file():
    assert {"lsknet_t", "vitaev2_s"} <= set(list_backbones())
    network = build_network(network_config("lwganet_l0", ["backbone.in_channels=5"]))
    assert type(network).__name__ == "LWGANet" and bands_of(network) == 5 and not network.training


def test_an_unknown_name_gets_the_nearest_backbone(tmp_path):
    with pytest.raises(ConfigError, match="neither a config nor a backbone") as caught:
        network_config("lsknet_tt")
    assert "did you mean 'lsknet_t'" in caught.value.fix
    (tmp_path / "data.py").write_text("data_root = 'data'\n")
    with pytest.raises(ConfigError, match="neither `model` nor `backbone`"):
        network_config(str(tmp_path / "data.py"))


def test_a_backbone_inside_a_model_counts_what_it_counts_alone():
    alone, whole = network_complexity("lsknet_t", (128, 128)), parts("detection_toy_lsknet_t")
    for part in alone.parts:
        inside = whole[f"backbone.{part.name}"]
        assert (inside.params, inside.macs) == (part.params, part.macs)
    assert whole["neck"].macs > 0 and whole["rpn_head"].macs > 0


def test_regions_are_counted_at_their_limit():
    def fixed(limit):
        overrides = [f"model.test_cfg.rpn.max_per_img={limit}"]
        return parts("detection_toy_lsknet_t", overrides=overrides)["roi_head"].macs

    assert fixed(200) == 2 * fixed(100) > 0


def test_heads_of_refined_boxes_and_cascades_are_counted():
    """S2ANet has towers of two layers for each task at both steps; a cascade has a head for each stage."""
    size = (256, 256)
    refined = network_complexity("lsknet_t_s2anet_1x_dota_ms", size)
    macs = {part.name: part.macs for part in refined.parts}
    towers = sum((256 // stride) ** 2 for stride in (8, 16, 32, 64, 128)) * 256 * 256 * 9
    assert macs["bbox_head_init"] > 4 * towers and macs["bbox_head_refine.0"] > 4 * towers
    (cascade,) = (
        part.macs
        for part in network_complexity("lsknet_t_roi_transformer_1x_dota_ms", size).parts
        if part.name == "roi_head"
    )
    (single,) = (
        part.macs
        for part in network_complexity("lsknet_t_oriented_rcnn_1x_dota_ms", size).parts
        if part.name == "roi_head"
    )
    assert cascade == pytest.approx(2 * single, rel=0.01)
    assert refined.uncounted == ()


def test_heads_that_depend_on_the_image_are_named():
    assert network_complexity("instance_toy_rsprompter", (64, 64)).uncounted == ("roi_head.mask_head",)
    assert network_complexity("pretraining_toy_lsknet_t", (64, 64)).uncounted == ("decoder",)
    assert network_complexity("segmentation_toy_lsknet_t", (64, 64)).uncounted == ()
    shown = CliRunner().invoke(app, ["info", "model", "instance_toy_rsprompter", "--size", "64"])
    assert "Not counted, as it depends on what an image shows: roi_head.mask_head." in " ".join(
        shown.output.split()
    )


def test_two_dates_cost_two_backbones():
    pair, single = (
        network_complexity("change_toy_lsknet_t", (128, 128)),
        network_complexity("lsknet_t", (128, 128)),
    )
    assert pair.input_shape == (1, 6, 128, 128)
    shared = sum(part.macs for part in pair.parts if part.name.startswith("backbone."))
    assert shared == 2 * single.total.macs
    assert {part.name: part for part in pair.parts}["auxiliary_head"].macs == 0


def test_frozen_parameters_are_counted_apart():
    counted = parts("lsknet_t", overrides=["backbone.frozen_stages=1"])
    assert counted["block1"].params > 0 == counted["block1"].trainable
    assert counted["block2"].params == counted["block2"].trainable


def test_parts_of_an_encoder_in_a_pyramid():
    names = parts("rsmamba_s")
    assert {"encoder.patch_embed", "encoder.layers", "pyramid"} <= set(names)


def test_every_row_of_weights_is_complete():
    rows = weight_rows()
    assert len(rows) == 13 and all(len(row) == 7 and all(row) for row in rows)
    assert {row[5] for row in rows} == {"direct", "by hand, from the authors' page"}


@pytest.mark.parametrize(
    ("name", "what", "shape"),
    [
        ("lsknet_t", "forward of the backbone", (2, 3, 32, 64)),
        ("change_toy_lsknet_t", "forward and post-processing of the whole model", (2, 6, 32, 64)),
        ("detection_toy_lsknet_t", "forward and post-processing of the whole model", (2, 3, 32, 64)),
    ],
)
def test_timings_state_their_conditions(name, what, shape):
    threads = torch.get_num_threads()
    options = BenchmarkOptions(
        (32, 64), batch=2, dtype="bfloat16", channels_last=False, device="cpu", threads=1, repeats=2
    )
    try:
        result = benchmark(name, options)
    finally:
        torch.set_num_threads(threads)
    timed = result.latency
    assert result.what == what and timed.input_shape == shape and timed.p50_ms > 0
    assert (timed.dtype, timed.memory_format, timed.threads) == ("bfloat16", "contiguous", 1)
    assert result.versions["torch"] and result.repeats == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_is_timed_by_its_own_clock_and_memory():
    result = benchmark("lsknet_t", BenchmarkOptions((64, 64), device="cuda", repeats=3))
    assert result.latency.device != "cpu" and 0 < result.latency.peak_memory_mib < 500
