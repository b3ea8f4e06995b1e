"""A detector that learned from a teacher leaves training as a plain one: ONNX, published names, LoRA."""

import types

import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from typer.testing import CliRunner

from rsfoundation.cli.app import app
from rsfoundation.engine.config import load_config
from rsfoundation.engine.model_builder import model_config
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.engine.task_distillation import TaskDistillationHook
from rsfoundation.io.checkpoints import read_checkpoint
from rsfoundation.models.factory import create_model

NAME = "distill/toy_detection_lwganet_l0"


def built(cfg):
    drop_sync_bn(cfg)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    return ROOT_MODELS.build(model_config(cfg))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder of a student, as its training writes it, and the student."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(NAME)
    teacher = folder / "teacher.pth"
    torch.save(dict(state_dict=built(load_config(cfg.distill.teacher_config)).state_dict(), meta={}), teacher)
    cfg.distill.teacher_checkpoint = str(teacher)
    adapted = dict(type="FeatureImitation", module="neck", channels=(64, 64), levels=4)
    cfg.distill.losses.append(adapted)
    student = built(cfg)
    for name, weight in student.named_parameters():  # scores that differ from place to place
        if "cls" in name and weight.ndim > 1:
            weight.data.normal_(0, 1.5 / weight[0].numel() ** 0.5)
    checkpoint = dict(state_dict=dict(student.state_dict()), meta={})
    assert any(key.startswith("distiller.") for key in checkpoint["state_dict"])
    runner = types.SimpleNamespace(model=student)
    TaskDistillationHook().before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, folder / "epoch_1.pth")
    cfg.dump(str(folder / "config.py"))
    teacher.unlink()  # nothing afterwards needs it
    return folder, student.eval()


def test_the_graph_has_the_student_alone_and_computes_what_it_computes(run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, student = run
    file = tmp_path / "backbone.onnx"
    command = ["export", str(folder), "--part", "backbone", "--size", "64", "--fixed-size", "-o", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    pixels = torch.rand(1, 3, 64, 64) * 255
    found = session.run(None, {"image": pixels.numpy()})
    preprocessor = student.data_preprocessor
    with torch.no_grad():
        wanted = student.backbone((pixels - preprocessor.mean) / preprocessor.std)
    assert len(found) == len(wanted) == 4
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-3, atol=1e-4)


def test_the_backbone_has_the_published_names(run, tmp_path):
    folder, student = run
    file = tmp_path / "student.pth"
    result = CliRunner().invoke(app, ["convert", "backbone", str(folder), str(file)])
    assert result.exit_code == 0, result.output
    saved = read_checkpoint(file)["state_dict"]
    loaded = create_model("lwganet_l0", pretrained=str(file))
    assert not loaded.load_report.missing
    own = student.backbone.state_dict()
    assert saved.keys() == own.keys() and all(torch.equal(saved[key], own[key]) for key in own)


@pytest.mark.slow
def test_the_whole_detector_is_a_graph(run, tmp_path):
    pytest.importorskip("onnxruntime")
    file = tmp_path / "detector.onnx"
    command = ["export", str(run[0]), "--size", "64", "--fixed-size", "-o", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and file.is_file(), result.output
    assert "100.0 %" in result.output and "without detections" not in result.output
