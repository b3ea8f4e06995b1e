"""The configs of real size resolve, build without their weights at hand, and train in every stage."""

import copy

import numpy as np
import pytest
import torch
from locations import ROOT
from mmengine.registry import init_default_scope

from rsfoundation.engine.checkpointing.export_backbone import export_backbone
from rsfoundation.engine.config import load_config
from rsfoundation.io.feature_cache import FeatureWriter
from rsfoundation.models.distill.teachers import preprocessing_of
from rsfoundation.models.factory import create_model
from rsfoundation.registry import DATASETS, MODELS

FOLDER = ROOT / "configs" / "distill"
SMALL = dict(
    hidden_size=48, num_attention_heads=4, mlp_dim=96, init_cfg=None
)  # the teacher, in all 12 blocks
SAM = dict(
    vision_config=dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=4, mlp_dim=48),
    prompt_encoder_config={},
    mask_decoder_config={},
)


def config_of(name):
    init_default_scope("mmengine")
    return load_config(FOLDER / f"{name}.py")


def images(side):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def step(model, inputs):
    losses = model(inputs, None, mode="loss")
    total = sum(value for name, value in losses.items() if name.startswith("loss"))
    total.backward()
    return losses


def test_a_student_of_rs4d_trains_in_every_stage():
    cfg = config_of("sam_vit_base_rsmamba_b_1024")
    cfg.model.teacher.update(SMALL)
    cfg.model.losses[1].teacher_channels = SMALL["hidden_size"]
    cfg.model.losses[2].update(checkpoint=None, sam=SAM, start=1)
    cfg.model.resolutions = [(0, 64), (1, 96)]
    model = MODELS.build(cfg.model)
    model.measure_targets([(images(96), None)], 2)
    first = step(model, images(96))
    assert first["loss_1_LevelAlignment"] > 0 and first["loss_2_PromptAlignment"] == 0
    second = step(model, images(96))
    assert second["loss_2_PromptAlignment"] > 0
    assert all(one.grad is not None for one in model.parameters() if one.requires_grad)
    assert int(model.steps) == 2 and model._resized(images(64)).shape[-1] == 96
    assert "prompt_iou" in model.eval().predict(images(96))[0]


def test_a_pyramid_student_trains_and_a_copy_shares_the_teacher():
    cfg = config_of("sam_vit_base_lwganet_l0_512")
    cfg.model.teacher.update(SMALL)
    cfg.model.backbone.init_cfg = None
    cfg.model.backbone.norm_cfg = dict(type="BN")
    model = MODELS.build(cfg.model)
    model.measure_targets([(images(64), None)], 2)
    assert step(model, images(64))["loss_0_MapAlignment"] > 0
    average = copy.deepcopy(model)  # as EMAHook makes it
    assert average.teacher is model.teacher and average.backbone is not model.backbone


def test_the_cached_student_reads_its_maps_and_names_the_teacher(tmp_path):
    cfg = config_of("sam_vit_base_rsmamba_b_512_cached")
    assert cfg.model.teacher.teacher == config_of("sam_vit_base_rsmamba_b_1024").model.teacher
    kinds = [str(one.type).rsplit(".", 1)[-1] for one in cfg.train_dataloader.dataset.pipeline]
    assert "ImageKey" in kinds and not any("Random" in kind for kind in kinds)
    preprocessing = preprocessing_of(MODELS.build(cfg.model.data_preprocessor))
    about = dict(teacher="ab" * 32, preprocessing=preprocessing, channels=256, format="int8")
    FeatureWriter(tmp_path, about).add({"one": np.ones((256, 4, 4), np.float32)})
    cfg.model.teacher.update(root=str(tmp_path), teacher=None)
    model = MODELS.build(cfg.model)
    assert bytes(model.teacher_hash.tolist()) == bytes(32)  # not loaded yet
    assert model.teacher(["one"])[0].shape == (1, 256, 4, 4)
    assert bytes(model.teacher_hash.tolist()).hex() == "ab" * 32


@pytest.mark.parametrize(
    "name",
    ["sam_vit_base_rsmamba_b_1024", "sam_vit_base_rsmamba_b_512_cached", "sam_vit_base_lwganet_l0_512"],
)
def test_their_data_pipelines_give_one_size(name, tmp_path):
    import cv2

    cfg = config_of(name)
    for part, shape in (("train", (700, 900)), ("val", (300, 500))):
        file = tmp_path / part / "one.png"
        file.parent.mkdir()
        cv2.imwrite(str(file), np.full((*shape, 3), 90, np.uint8))
    side = 1024 if name.endswith("1024") else 512
    for part in ("train", "val"):
        described = copy.deepcopy(cfg[f"{part}_dataloader"].dataset)
        described.data_root = str(tmp_path / part)
        dataset = DATASETS.build(described)
        assert all(dataset[index]["inputs"].shape == (3, side, side) for index in range(len(dataset)))


def test_an_exported_pyramid_has_the_names_of_the_backbone(tmp_path):
    cfg = config_of("sam_vit_base_lwganet_l0_512")
    cfg.model.teacher.update(SMALL)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    model.measure_targets([(images(64), None)], 2)
    cfg.dump(str(tmp_path / "config.py"))
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / "iter_1.pth")
    made = export_backbone(tmp_path / "iter_1.pth", tmp_path / "student.pth")
    assert "the adapter to the teacher's channels was dropped" in made.card.read_text()
    student = create_model("lwganet_l0", pretrained=str(made.output))
    assert not student.load_report.missing
    own, trained = student.state_dict(), model.backbone.state_dict()
    assert all(torch.equal(own[key], trained[key]) for key in own)


def test_an_exported_student_starts_create_model_and_an_instance_config(tmp_path):
    cfg = config_of("sam_vit_base_rsmamba_b_1024")
    cfg.model.teacher.update(SMALL)
    cfg.model.update(losses=[dict(type="MapAlignment")], resolutions=[], corruption=None)
    small = dict(embed_dims=256, num_layers=2, feedforward_channels=64)
    cfg.model.backbone.update(arch=small, img_size=64)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.measure_targets([(images(64), None)], 2)
    cfg.dump(str(tmp_path / "config.py"))
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / "iter_1.pth")
    made = export_backbone(tmp_path / "iter_1.pth", tmp_path / "student.pth")
    options = dict(arch=small, img_size=64, out_type="featmap")
    student = create_model("RSMamba", pretrained=str(made.output), **options).eval()
    found = torch.stack([one.student_map for one in model.eval().predict(images(64))])
    assert torch.allclose(student(images(64))[0], found, atol=1e-4)

    detector = load_config(ROOT / "configs" / "rs4d" / "rsmamba_b_rs4d_prompt_800e_nwpu.py")
    detector.model.backbone.update(
        arch=small,
        img_size=64,
        out_indices=[0, 1],
        init_cfg=dict(type="Pretrained", checkpoint=str(made.output)),
    )
    backbone = MODELS.build(detector.model.backbone)
    backbone.init_weights()
    saved = torch.load(made.output, weights_only=True)
    saved = saved.get("state_dict", saved)
    own = backbone.state_dict()
    shared = own.keys() & saved.keys()
    assert len(shared) >= 0.9 * len(saved) and all(torch.equal(own[key], saved[key]) for key in shared)
