"""Exported files equal PyTorch at every size that they claim, or are not kept."""

import types

import pytest
import torch
from mmseg.structures import SegDataSample
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.export import MapLogits, Normalised, SizeCheck, StageMaps, export
from rsfoundation.models.preprocessors import DualInputSegDataPreProcessor, SegDataPreProcessor

needs_export = pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="needs torch 2.7")
STATS = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0])


@pytest.fixture
def _onnx():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX export: pip install rsfoundation[onnx]")


class Maps(nn.Module):
    output_names = ("logits",)

    def __init__(self, middle=None, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Conv2d(channels, 8, 3, 2, 1), middle, nn.Conv2d(8, 4, 1)

    def forward(self, images):
        maps = self.first(images)
        if self.middle is not None:
            maps = maps + self.middle(maps)
        return nn.functional.interpolate(self.last(maps), scale_factor=2.0)


class Pyramid(nn.Module):
    """Pooling to a fixed grid, as in UPerNet: torch exports it for the example's size."""

    def forward(self, maps):
        pooled = nn.functional.adaptive_avg_pool2d(maps, 3)
        return nn.functional.interpolate(pooled, size=maps.shape[2:], mode="bilinear")


class Branch(nn.Module):
    """Control flow that depends on values: no graph has it."""

    def forward(self, maps):
        return maps if maps.sum() > 0 else -maps


class Bessel(nn.Module):
    """torch.onnx looks for this operator under a shorter name than the module calls it by."""

    def forward(self, maps):
        return torch.special.bessel_j0(maps)


class Singular(nn.Module):
    """The operator is part of the decomposed program alone."""

    def forward(self, maps):
        return maps + torch.linalg.svdvals(maps).sum()


class Stages(nn.Module):
    out_strides = (2,)

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return (self.backbone(images),)


@pytest.mark.parametrize("bgr_to_rgb", [True, False])
def test_raw_pixels_are_treated_as_by_the_preprocessor(bgr_to_rgb):
    preprocessor = SegDataPreProcessor(**STATS, bgr_to_rgb=bgr_to_rgb)
    loaded = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)  # blue first
    expected = preprocessor(dict(inputs=[loaded], data_samples=[SegDataSample()]))["inputs"]
    found = Normalised(nn.Identity(), preprocessor)(loaded.flip(0)[None].float())
    torch.testing.assert_close(found, expected)


def test_raw_pairs_are_treated_as_by_the_preprocessor():
    preprocessor = DualInputSegDataPreProcessor(
        mean=STATS["mean"] + [1.0, 2.0, 3.0], std=STATS["std"] * 2, bgr_to_rgb=True
    )
    loaded = torch.randint(0, 256, (6, 32, 32), dtype=torch.uint8)
    expected = preprocessor(dict(inputs=[loaded], data_samples=[SegDataSample()]))["inputs"]
    red_first = torch.cat([loaded[:3].flip(0), loaded[3:].flip(0)])
    found = Normalised(nn.Identity(), preprocessor, dates=2)(red_first[None].float())
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("_onnx")
def test_sizes_are_free_where_that_is_right(tmp_path):
    module = Normalised(Maps().eval(), SegDataPreProcessor(**STATS, bgr_to_rgb=True))
    done = export(module, 3, (64, 96), tmp_path / "m.onnx")
    assert done.free_size and not done.note and done.output_shapes == {"logits": (1, 4, 64, 96)}
    assert [check.size for check in done.checks] == [(64, 96), (96, 192), (128, 96)]
    assert all(check.passed and check.equal_pixels == 1.0 for check in done.checks)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.usefixtures("_onnx")
def test_a_free_size_that_is_wrong_becomes_fixed(tmp_path):
    done = export(Normalised(Maps(Pyramid()).eval(), None), 3, (64, 64), tmp_path / "m.onnx")
    assert not done.free_size and [check.size for check in done.checks] == [(64, 64)]
    assert done.note.startswith("the size is fixed")


@needs_export
def test_programs_of_torch_export(tmp_path):
    done = export(Normalised(Maps().eval(), None), 3, (64, 64), tmp_path / "m.pt2")
    assert done.free_size and done.file.is_file()
    images = torch.rand(1, 3, 96, 64)
    loaded = torch.export.load(done.file).module()
    torch.testing.assert_close(loaded(images), Maps().eval()(images))


@needs_export
def test_a_part_that_no_graph_can_have_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"the part middle.1 \(Branch\) has an operator") as raised:
        module = Normalised(Maps(nn.Sequential(nn.ReLU(), Branch())).eval(), None)
        export(module, 3, (64, 64), tmp_path / "m.pt2")
    assert "--part backbone" in raised.value.fix and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_onnx")
@pytest.mark.parametrize(("part", "operator"), [(Bessel, "bessel_j0"), (Singular, "_linalg_svd")])
def test_an_operator_that_onnx_lacks_is_named_with_its_part(tmp_path, part, operator):
    module = Normalised(Maps(nn.Sequential(nn.ReLU(), part())).eval(), None)
    with pytest.raises(ConfigError) as raised:
        export(module, 3, (64, 64), tmp_path / "m.onnx")
    assert f"the part middle.1 ({part.__name__}; File " in raised.value.what
    assert f"has the operator '{operator}', which ONNX lacks" in raised.value.what
    assert "-o model.pt2" in raised.value.fix and "--part backbone" in raised.value.fix
    assert not list(tmp_path.iterdir())
    # the fix works
    assert export(module, 3, (64, 64), tmp_path / "m.pt2").file.is_file()


@pytest.mark.usefixtures("_onnx")
def test_a_backbone_with_such_an_operator_is_not_offered_the_backbone(tmp_path):
    module = Normalised(StageMaps(Stages(Maps(Bessel()))).eval(), None)
    with pytest.raises(ConfigError, match=r"the part backbone.backbone.middle \(Bessel") as raised:
        export(module, 3, (64, 64), tmp_path / "m.onnx")
    assert raised.value.fix == "export a program of torch.export (-o model.pt2)"


@pytest.mark.parametrize(
    ("size", "name", "what"),
    [((64, 50), "m.onnx", "multiples of 32"), ((64, 64), "m.engine", "unknown kind of file: .engine")],
)
def test_wrong_requests(tmp_path, size, name, what):
    with pytest.raises(ConfigError, match=what):
        export(Normalised(Maps().eval(), None), 3, size, tmp_path / name)


def test_an_old_torch_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rsfoundation.engine.export._TORCH_EXPORTS", False)
    with pytest.raises(ConfigError, match=r"needs torch 2\.7 or newer, this is"):
        export(Normalised(Maps().eval(), None), 3, (64, 64), tmp_path / "m.pt2")


@pytest.mark.usefixtures("_onnx")
def test_openvino_computes_the_same(tmp_path):
    pytest.importorskip("openvino", reason="pip install rsfoundation[openvino]")
    done = export(Normalised(Maps().eval(), None), 3, (64, 64), tmp_path / "m.onnx", openvino=True)
    assert [check.runtime for check in done.checks] == ["onnxruntime"] * 3 + ["OpenVINO"] * 3
    assert done.free_size and all(check.passed for check in done.checks)
    with pytest.raises(ConfigError, match="OpenVINO reads ONNX files"):
        export(Normalised(Maps().eval(), None), 3, (64, 64), tmp_path / "m.pt2", openvino=True)


@pytest.mark.parametrize("bands", [None, 5])
def test_backbones_by_name_are_normalised(bands):
    from rsfoundation.cli.export import _MEAN, _named_backbone

    module, channels = _named_backbone("lwganet_l0", bands)
    middle = torch.tensor(_MEAN if bands is None else [127.5]).view(1, -1, 1, 1).expand(1, channels, 32, 32)
    assert channels == (bands or 3) and float(module.normalised(middle).abs().max()) == 0


def test_checks_count_classes():
    assert SizeCheck((32, 32), 1e-6, 1.0).passed
    assert not SizeCheck((32, 32), 1e-6, 0.0).passed
    assert not SizeCheck((32, 32), 0.5).passed
    assert not SizeCheck((32, 32), error="cannot run").passed


def test_tasks_without_maps_are_refused(tiny_config, monkeypatch, capsys):
    from rsfoundation.cli import main
    from rsfoundation.engine.resolve_config import RunOptions
    from rsfoundation.engine.train import train

    folder = train(tiny_config, RunOptions(tiny_config.parent / "run", device="cpu")).work_dir
    with pytest.raises(SystemExit) as stop:
        main(["export", str(folder), "-o", str(folder / "m.onnx")])
    assert stop.value.code == 2 and "--part backbone" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["pretraining_toy_lsknet_t", "distill/toy_sam_vit"])
def test_runs_that_train_a_backbone_are_not_exported_whole(tmp_path, config):
    from rsfoundation.cli.export import _trained

    with pytest.raises(ConfigError, match="predict nothing and are not exported whole") as raised:
        _trained(str(tmp_path / "last.pth"), "model", config, (), None)
    assert raised.value.fix == "export the backbone alone: --part backbone"


@pytest.mark.slow
@pytest.mark.usefixtures("_onnx")
def test_how_images_are_read_is_in_the_metadata(tmp_path, monkeypatch):
    from exact_models import write_run

    from rsfoundation.cli import export as verb

    # the exact model has no graph
    monkeypatch.setattr("rsfoundation.engine.export_detector.is_detector", lambda network: True)
    raw = types.SimpleNamespace(metadata=dict)
    monkeypatch.setattr("rsfoundation.engine.export_detector.RawDetections", lambda network: raw)
    monkeypatch.setattr("rsfoundation.engine.export.Normalised", lambda *parts: parts)
    run = write_run(tmp_path, "detection")
    _, _, plain = verb._trained(run, "model", None, (), 3)
    _, _, ranged = verb._trained(run, "model", None, ("image_loading.pixel_range=(0,4000)",), 3)
    assert "image_loading" not in plain and plain["task"] == "detection"
    assert ranged["image_loading"]["pixel_range"] == (0, 4000)


def test_a_segmentor_and_a_backbone(tmp_path, monkeypatch):
    from mmengine.registry import DefaultScope

    from rsfoundation.cli import main
    from rsfoundation.engine.config import load_config
    from rsfoundation.registry import MODELS

    monkeypatch.chdir(tmp_path)
    cfg = load_config("quickstart/segmentation_toy_lsknet_t")
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).eval()
    pytest.importorskip("openvino", reason="pip install rsfoundation[openvino]")
    module = Normalised(MapLogits(model), model.data_preprocessor)
    done = export(module, 3, (128, 128), tmp_path / "s.onnx", openvino=True)
    assert {check.runtime for check in done.checks} == {"onnxruntime", "OpenVINO"}
    assert all(check.equal_pixels >= 0.9999 for check in done.checks)
    with pytest.raises(SystemExit) as stop:
        main(["export", "lwganet_l0", "--size", "64", "-o", "b.onnx"])
    assert stop.value.code == 0 and (tmp_path / "b.onnx").is_file()
