"""Encoders of transformers teach: any size of image, no class or register tokens, weights from a folder."""

import pytest
import torch

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.distill.feature_distiller import FeatureDistiller
from rsfoundation.models.distill.teachers import FrozenTeacher, encode

transformers = pytest.importorskip("transformers")

SIZES = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32)
STUDENT = dict(
    type="RSMamba",
    arch=dict(embed_dims=32, num_layers=1, feedforward_channels=32),
    img_size=64,
    out_type="featmap",
)
KINDS = {
    "vit": dict(model_type="vit", patch_size=8, **SIZES),
    "dinov2": dict(
        model_type="dinov2", patch_size=8, mlp_ratio=1, **{k: v for k, v in SIZES.items() if k[:3] != "int"}
    ),
    "dinov2_with_registers": dict(
        model_type="dinov2_with_registers", patch_size=8, num_register_tokens=4, mlp_ratio=1, **SIZES
    ),
    "clip_vision_model": dict(model_type="clip_vision_model", patch_size=8, **SIZES),
    "siglip_vision_model": dict(model_type="siglip_vision_model", patch_size=8, **SIZES),
    "convnext": dict(model_type="convnext", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
}


def teacher_of(kind):
    return dict(type="HuggingFaceEncoder", config=KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [32, 64])
def test_any_encoder_returns_a_map_of_any_image(kind, side):
    network = FrozenTeacher(teacher_of(kind)).load()
    images = torch.randn(2, 3, side, side)
    maps, _ = encode(network, images)
    cells = side // (32 if kind == "convnext" else 8)
    assert maps.shape == (2, 32, cells, cells) and network.out_channels == (32,)


def test_the_map_is_in_the_order_of_the_image():
    network = FrozenTeacher(teacher_of("dinov2_with_registers")).load()
    images = torch.zeros(1, 3, 64, 64)
    changed = images.clone()
    changed[:, :, 8:16, 40:48] = 3  # row 1, column 5
    with torch.no_grad():
        first, second = (encode(network, one)[0] for one in (images, changed))
    difference = (second - first).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), 8) == (1, 5)


def test_weights_come_from_a_folder_and_teach(tmp_path):
    torch.manual_seed(3)
    saved = transformers.ViTModel(transformers.ViTConfig(patch_size=16, **SIZES))
    saved.save_pretrained(tmp_path / "vit")
    model = FeatureDistiller(STUDENT, dict(type="HuggingFaceEncoder", name=str(tmp_path / "vit")))
    images = torch.randn(2, 3, 64, 64)
    model.measure_targets([(images, None)], 2)
    for name, value in model.teacher.network.state_dict().items():
        assert torch.equal(value, saved.state_dict()[name])
    loss = model(images, None, mode="loss")["loss_0_MapAlignment"]
    loss.backward()
    assert loss > 0 and not any(one.requires_grad for one in model.teacher.parameters())


def test_a_missing_folder_and_two_sources_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="one of name and config"):
        FrozenTeacher(dict(type="HuggingFaceEncoder"))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        FrozenTeacher(dict(type="HuggingFaceEncoder", name=str(tmp_path / "nothing")))
