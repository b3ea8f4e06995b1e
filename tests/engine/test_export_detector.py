"""Detectors as graphs: raw detections, suppressed afterwards, equal what the model predicts."""

import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from locations import ROOT
from torchvision.ops import nms

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import load_config
from rsfoundation.engine.export import Normalised, SizeCheck, export, fold_batch_norms
from rsfoundation.engine.export_detector import Agreement, RawDetections, paste_masks, suppress
from rsfoundation.ops import nms_rotated, roi_align_rotated
from rsfoundation.ops.roi_align import RoiGrid
from rsfoundation.ops.rotated_roi_align import pool_levels
from rsfoundation.registry import MODELS

FAMILIES = [
    "quickstart/detection_toy_lsknet_t",
    "quickstart/detection_toy_retinanet_lsknet_t",
    "quickstart/detection_toy_s2anet_lsknet_t",
    "quickstart/instance_toy_lsknet_t",
]
LARGE_FAMILIES = [
    "lsknet_t_roi_transformer_1x_dota_ms",
    "lsknet_t_r3det_1x_dota_ms",
    "lsknet_t_rotated_fcos_1x_dota_ss",
    "lsknet_t_rotated_rtmdet_1x_dota_ss",
    "stripnet_t_strip_rcnn_1x_dota_ms",
    "rsp_resnet50_oriented_rcnn_1x_dota_ss",
]


def build(name):
    """Return a detector whose scores differ from place to place, as those of a trained one do."""
    from mmengine.registry import init_default_scope

    cfg = load_config(name)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.pop("init_cfg", None)
    for key, sub in cfg.model.items():
        if isinstance(sub, dict) and (sub.get("norm_cfg") or {}).get("type") == "SyncBN":
            cfg.model[key].norm_cfg.type = "BN"
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    for part, parameter in model.named_parameters():
        if not part.startswith("backbone") and parameter.ndim > 1:
            # boxes stay near their anchors; random refinements make sides of 1000 and 0.1 px of them, whose
            # corners PyTorch itself places 0.4 px from where float64 does
            near = 0.05 if len(getattr(model, "bbox_head_refine", ())) > 1 else 0.2
            scale = near if "reg" in part.rsplit(".", 2)[-2] else 1.5
            parameter.data.normal_(0, scale / parameter[0].numel() ** 0.5)
    return model


def image(side):
    return torch.nn.functional.interpolate(torch.rand(1, 3, side // 8, side // 8) * 255, (side, side))


def check(name, side):
    model = build(name)
    settings = str(model.test_cfg)
    module = Normalised(RawDetections(model), None).eval()
    pixels = (image(side) - 120) / 60
    with torch.no_grad():
        found = module.network.compare(pixels, module(pixels))
    assert str(model.test_cfg) == settings  # the model suppresses again
    assert found.detections >= 10
    assert found.matched >= 0.99 and found.mask_pixels > 0.999
    assert found.box_difference < 0.01 and found.score_difference < 1e-4


@pytest.mark.parametrize("name", FAMILIES)
def test_raw_detections_are_those_of_the_model(name):
    check(name, 128)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_FAMILIES)
def test_so_they_are_for_published_detectors(name):
    check(name, 128)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES[1:], LARGE_FAMILIES[0], LARGE_FAMILIES[1], LARGE_FAMILIES[3]])
def test_files_of_every_family(tmp_path, name):
    pytest.importorskip("onnxruntime")
    module = Normalised(RawDetections(build(name)), None).eval()
    done = export(module, 3, (128, 128), tmp_path / "m.onnx", pixels=(image(128) - 120) / 60)
    assert done.checks[0].agreement.detections >= 10 and done.note.startswith("the size is fixed")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(96, 160), (192, 128)])
@pytest.mark.parametrize("name", FAMILIES)
def test_files_of_other_sizes(tmp_path, name, size):
    onnxruntime = pytest.importorskip("onnxruntime")
    module = Normalised(RawDetections(build(name)), None).eval()
    done = export(module, 3, size, tmp_path / "m.onnx", pixels=(image(192) - 120) / 60)
    assert done.input_shape == (1, 3, *size) and done.checks[0].agreement.detections >= 10
    session = onnxruntime.InferenceSession(str(done.file), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=rf"Got: 64 Expected: {size[0]}"):  # kinds of its own
        session.run(None, {"image": np.zeros((1, 3, 64, 64), np.float32)})


@pytest.mark.slow
def test_openvino_finds_the_same(tmp_path):
    pytest.importorskip("openvino", reason="pip install rsfoundation[openvino]")
    module = Normalised(RawDetections(build(FAMILIES[0])), None).eval()
    pixels = (image(128) - 120) / 60
    done = export(module, 3, (128, 128), tmp_path / "m.onnx", pixels=pixels, openvino=True)
    assert [check.runtime for check in done.checks] == ["onnxruntime", "OpenVINO"]
    assert all(check.agreement.detections >= 10 for check in done.checks)


@pytest.mark.slow
def test_a_program_of_torch_export(tmp_path):
    module = Normalised(RawDetections(build(FAMILIES[0])), None).eval()
    done = export(module, 3, (128, 128), tmp_path / "m.pt2", pixels=(image(128) - 120) / 60)
    assert done.checks[0].agreement.detections >= 10 and done.checks[0].agreement.matched == 1


@pytest.mark.slow
def test_a_program_with_suppression_is_loaded_after_torchvision(tmp_path):
    class Suppressed(torch.nn.Module):
        def forward(self, boxes, scores):
            return nms(boxes, scores, 0.5)

    file = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(Suppressed(), (torch.rand(9, 4), torch.rand(9))), file)
    load = f"torch.export.load({str(file)!r})"
    for names, code in (("torch, torchvision", 0), ("torch", 1)):
        done = subprocess.run([sys.executable, "-c", f"import {names}; {load}"], capture_output=True)
        assert done.returncode == code


@pytest.mark.slow
def test_a_file_runs_without_the_package(tmp_path):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from PIL import Image

    network = RawDetections(build(FAMILIES[0]))
    limit = {"score_threshold": 0.3}
    data = {"classes": [f"class{index}" for index in range(30)], **network.metadata(), **limit}
    file = tmp_path / "m.onnx"
    pixels = image(128).round()
    export(Normalised(network, None).eval(), 3, (128, 128), file, pixels=pixels, metadata=data, deploy=True)
    assert {entry.key for entry in onnx.load(file).metadata_props} >= {"classes", "iou_threshold"}
    Image.fromarray(pixels[0].permute(1, 2, 0).byte().numpy()).save(tmp_path / "tile.png")
    script = ROOT / "docs/examples/onnx_detector.py"
    command = [sys.executable, "-c", f"import sys; sys.modules['torch'] = None; {RUN}"]
    out = subprocess.run(
        [*command, str(script), str(file), str(tmp_path / "tile.png")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # by the package from the same file: an overlap may be rounded to either side of the threshold
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    boxes, _, labels = suppress(*map(torch.from_numpy, session.run(None, {"image": pixels.numpy()})), data)
    lines = [line.split() for line in out.stdout.splitlines()]
    assert len(lines) == len(boxes) > 0
    assert [line[0] for line in lines] == [f"class{label}" for label in labels.tolist()]
    np.testing.assert_allclose([[float(number) for number in line[2:]] for line in lines], boxes, atol=0.05)


RUN = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_the_example_suppresses_as_the_package_does():
    example = runpy.run_path(str(ROOT / "docs/examples/onnx_detector.py"))
    generator = np.random.default_rng(0)
    boxes = generator.uniform([0, 0, 4, 2, -1.5], [100, 100, 30, 20, 1.5], (300, 5))
    scores, labels = generator.random(300), generator.integers(0, 3, 300)
    settings = dict(score_threshold=0.1, iou_threshold=0.3, max_per_image=1000)
    found = example["suppress"](boxes, scores, labels, settings)
    expected = suppress(*map(torch.from_numpy, (boxes, scores, labels)), settings)
    assert 20 < len(found[0]) < 270
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    able = torch.from_numpy(scores) > 0.1
    tensors = [torch.from_numpy(part)[able] for part in (boxes, scores)]
    keep = nms_rotated(*tensors, 0.3, torch.from_numpy(labels)[able])
    np.testing.assert_array_equal(found[1], tensors[1][keep].numpy())


@pytest.mark.parametrize("clockwise", [True, False])
@pytest.mark.parametrize("aligned", [True, False])
def test_pooling_in_a_graph_equals_the_operator(aligned, clockwise):
    torch.manual_seed(0)
    maps = [torch.rand(1, 8, 32, 24), torch.rand(1, 8, 16, 12)]
    grids = [RoiGrid(1 / stride, 2, aligned, clockwise) for stride in (4, 8)]
    rois = torch.rand(700, 6) * torch.tensor([0, 110.0, 140.0, 60.0, 30.0, 6.0]) - torch.tensor(
        [0, 5.0, 5.0, 0, 0, 3.0]
    )
    levels = torch.arange(700) % 2
    found = pool_levels(maps, rois, levels, (7, 7), grids)
    for level in (0, 1):
        expected = roi_align_rotated(maps[level], rois[levels == level], (7, 7), grids[level])
        torch.testing.assert_close(found[levels == level], expected, atol=1e-4, rtol=1e-4)


def test_what_a_graph_cannot_have_is_named():
    model = build(FAMILIES[0])
    model.roi_head.bbox_roi_extractor.roi_layers[0].sampling_ratio = 0
    with pytest.raises(ConfigError, match=r"RoIAlignRotated.*sampling_ratio=0") as raised:
        RawDetections(model)
    assert "--part backbone" in raised.value.fix


def test_norms_are_folded_into_convolutions_that_run_once():
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.shared, self.first, self.second = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.norm(self.conv(x)).relu()
            return self.second(self.shared(self.first(self.shared(x))))

    torch.manual_seed(0)
    network = Network()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(), part.running_var.uniform_(0.5, 2), part.weight.data.uniform_(0.5, 2)
    module = Normalised(network, None).eval()
    copy, count = fold_batch_norms(module, torch.rand(1, 3, 16, 16))
    assert count == 1 and isinstance(copy.network.norm, nn.Identity)
    assert isinstance(copy.network.first, nn.BatchNorm2d) and isinstance(network.norm, nn.BatchNorm2d)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(copy(x), module(x), atol=1e-5, rtol=1e-5)


def test_detections_that_differ_fail_the_check():
    assert SizeCheck((32, 32), agreement=Agreement(100, 1.0, 0.0, 0.0)).passed
    assert not SizeCheck((32, 32), agreement=Agreement(100, 0.9, 0.0, 0.0)).passed
    assert not SizeCheck((32, 32), agreement=Agreement(100, 1.0, 0.0, 0.0, 0.9)).passed
    network = RawDetections(build(FAMILIES[0]))
    pixels = (image(128) - 120) / 60
    with torch.no_grad():
        boxes, scores, labels = network(pixels)
        moved = network.compare(pixels, (boxes + torch.tensor([1.0, 0, 0, 0, 0]), scores, labels))
        more = [torch.cat([part, part[:50]]) for part in (boxes, scores, labels)]
        more[0][-50:] += 40
        more[1][-50:] = scores.max()
        added = network.compare(pixels, more)
    assert moved.matched < 0.5
    assert added.matched < 0.95  # 840 of 890


def test_masks_are_pasted_as_mmdet_pastes_them():
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    torch.manual_seed(0)
    masks, start = torch.rand(5, 28, 28), torch.rand(5, 2) * 30
    boxes = torch.cat([start, start + 5 + torch.rand(5, 2) * 30], 1)
    expected, _ = _do_paste_mask(masks[:, None], boxes, 60, 70, skip_empty=False)
    torch.testing.assert_close(paste_masks(masks, boxes, (60, 70)), expected)
