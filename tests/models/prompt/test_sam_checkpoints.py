"""SAM checkpoints of every format into every part; those of another size or network are named."""

import json

import pytest
import torch
from hf_sam import DECODER, PROMPT, VISION, hf_sam, mmpretrain_state, original_state, randomise
from safetensors.torch import save_file

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.models.encoders.sam_vit import SAMViT
from rsfoundation.models.factory import create_model
from rsfoundation.models.pretrained.loading import load_checkpoint
from rsfoundation.models.pretrained.sam_checkpoints import sam_format
from rsfoundation.models.prompt.sam import SAM
from rsfoundation.models.prompt.sam_wrappers import read_hf_name
from rsfoundation.registry import MODELS


@pytest.fixture(scope="module")
def state():
    """A tiny SAM under Hugging Face's names."""
    return {key: value.detach().clone() for key, value in hf_sam().state_dict().items()}


@pytest.fixture(scope="module")
def files(state, tmp_path_factory):
    """The same weights in every format: name -> file."""
    folder = tmp_path_factory.mktemp("sam")
    torch.save(state, folder / "pytorch_model.bin")
    torch.save(original_state(state), folder / "original.pth")
    torch.save({"state_dict": mmpretrain_state(state)}, folder / "mmpretrain.pth")
    tied = {key: value for key, value in state.items() if not key.startswith("prompt_encoder.shared")}
    save_file(tied, folder / "model.safetensors", metadata={"format": "pt"})  # as transformers writes it
    encoder = {key[15:]: value for key, value in state.items() if key.startswith("vision_encoder.")}
    torch.save({f"module.{key}": value for key, value in encoder.items()}, folder / "encoder.pth")
    return {path.name: path for path in folder.iterdir()}


WHOLE = ["pytorch_model.bin", "model.safetensors", "original.pth"]
ANY = [*WHOLE, "mmpretrain.pth", "encoder.pth"]


def pretrained(path):
    return dict(type="Pretrained", checkpoint=str(path))


def assert_loaded(model, expected):
    """All of a module comes from the checkpoint."""
    model.init_weights()
    assert not model.load_report.missing and not model.load_report.resized
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def part(state, prefix):
    return {key: value for key, value in state.items() if key.startswith(f"{prefix}.")}


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_model(name, files, state):
    model = SAM(
        vision_config=VISION,
        prompt_encoder_config=PROMPT,
        mask_decoder_config=DECODER,
        init_cfg=pretrained(files[name]),
    )
    assert_loaded(model, state)


@pytest.mark.parametrize("name", ANY)
def test_the_image_encoder(name, files, state):
    encoder = SAMViT(**VISION, init_cfg=pretrained(files[name]))
    expected = {key[15:]: value for key, value in part(state, "vision_encoder").items()}
    assert_loaded(encoder, expected)


def test_a_folder_of_hugging_face(files, state):
    encoder = SAMViT(**VISION, init_cfg=pretrained(files["model.safetensors"].parent))
    assert_loaded(encoder, {key[15:]: value for key, value in part(state, "vision_encoder").items()})


def test_by_create_model(files):
    model = create_model("SAMViT", pretrained=files["original.pth"], **VISION)
    assert not model.load_report.missing
    pyramid = create_model("sam_vit_base", pretrained=files["original.pth"], out_indices=[-1], **VISION)
    assert not pyramid.encoder.load_report.missing


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    ("kind", "fields", "prefix"),
    [
        ("RSSamPositionalEmbedding", VISION, "shared_image_embedding"),
        ("RSSamPromptEncoder", PROMPT, "prompt_encoder"),
        ("RSSamMaskDecoder", DECODER, "mask_decoder"),
        ("RSSamVisionEncoder", VISION, "vision_encoder"),
    ],
)
def test_wrappers_of_the_parts(name, kind, fields, prefix, files, state):
    wrapper = MODELS.build(
        dict(type=f"rsfoundation.{kind}", extra_config=fields, init_cfg=pretrained(files[name]))
    )
    expected = part(state, prefix)
    expected.pop("prompt_encoder.shared_embedding.positional_embedding", None)
    assert_loaded(wrapper, expected)


def test_wrapper_of_the_whole(files, state):
    extra = dict(vision_config=VISION, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER)
    model = MODELS.build(
        dict(type="rsfoundation.RSSamModel", extra_config=extra, init_cfg=pretrained(files["original.pth"]))
    )
    model.init_weights()
    expected = {f"sam_model.{key}": value for key, value in state.items()}
    assert all(torch.equal(model.state_dict()[key], value) for key, value in expected.items())
    assert model.state_dict().keys() == expected.keys()


@pytest.mark.parametrize("name", ANY)
def test_wrapper_under_the_names_of_mmpretrain(name, files, state):
    options = {key: value for key, value in VISION.items() if key != "image_size"}
    wrapper = MODELS.build(
        dict(
            type="rsfoundation.MMPretrainSamVisionEncoder",
            hf_pretrain_name="facebook/sam-vit-base",
            img_size=128,
            init_cfg=pretrained(files[name]),
            **options,
        )
    ).eval()
    expected = {key.replace("backbone.", "vision_encoder."): x for key, x in mmpretrain_state(state).items()}
    assert_loaded(wrapper, expected)
    encoder = SAMViT(**VISION, init_cfg=pretrained(files[name])).eval()
    encoder.init_weights()
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        (found,), (wanted,) = wrapper(image), encoder(image)
    assert torch.equal(found, wanted)


def test_tables_are_resampled_to_another_image_size(files):
    wrapper = MODELS.build(
        dict(
            type="rsfoundation.MMPretrainSamVisionEncoder",
            img_size=64,
            init_cfg=pretrained(files["original.pth"]),
            **{key: value for key, value in VISION.items() if key != "image_size"},
        )
    )
    wrapper.init_weights()
    tables = ("pos_embed", "layers.1.attn.rel_pos_h", "layers.1.attn.rel_pos_w")
    assert set(wrapper.load_report.resized) == {f"vision_encoder.{table}" for table in tables}
    assert not wrapper.load_report.missing


def test_adapters_get_their_weights_under_their_own_names(files, state):
    pytest.importorskip("peft", reason="adapters: pip install rsfoundation[peft]")
    options = dict(type="rsfoundation.RSSamVisionEncoder", extra_config=VISION)
    wrapper = MODELS.build(
        {**options, "peft_config": dict(r=4), "init_cfg": pretrained(files["original.pth"])}
    )
    wrapper.init_weights()
    keys = wrapper.state_dict()
    prefix = "vision_encoder.base_model.model."
    assert keys[f"{prefix}layers.0.attn.qkv.lora_A.default.weight"].shape == (4, 64)
    assert keys[f"{prefix}layers.0.attn.qkv.lora_B.default.weight"].abs().sum() == 0
    assert torch.equal(
        keys[f"{prefix}layers.0.attn.qkv.base_layer.weight"], state["vision_encoder.layers.0.attn.qkv.weight"]
    )
    assert all("lora_" in name for name in wrapper.load_report.missing)
    assert {name for name, p in wrapper.named_parameters() if p.requires_grad} == {
        name for name, _ in wrapper.named_parameters() if "lora_" in name
    }
    plain = MODELS.build({**options, "init_cfg": pretrained(files["original.pth"])})
    plain.init_weights()
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(wrapper.eval()(image)[0], plain.eval()(image)[0])
    default = MODELS.build({**options, "peft_config": {}}).state_dict()
    assert default[f"{prefix}layers.0.attn.qkv.lora_A.default.weight"].shape == (16, 64)


def fake(width, depth, rename=lambda state: state):
    """A checkpoint with the names and sizes that tell a published encoder, without its bulk."""
    state = {"vision_encoder.patch_embed.projection.weight": torch.zeros(width, 3, 16, 16)}
    for index in range(depth):
        state[f"vision_encoder.layers.{index}.layer_norm1.weight"] = torch.zeros(width)
    return rename(state)


@pytest.mark.parametrize(
    ("size", "title", "fix"),
    [
        ((1024, 24), "SAM ViT-L (1024 channels, 24 blocks, {} format)", "arch='large'"),
        ((1280, 32), "SAM ViT-H (1280 channels, 32 blocks, {} format)", "arch='huge'"),
        ((96, 2), "a SAM encoder (96 channels, 2 blocks, {} format)", "hidden_size=96, num_hidden_layers=2"),
    ],
)
@pytest.mark.parametrize(
    ("title_of_format", "rename"),
    [("Hugging Face", dict), ("original", original_state), ("mmpretrain", mmpretrain_state)],
)
def test_another_size_is_named_with_the_arch_that_fits(size, title, fix, title_of_format, rename, tmp_path):
    torch.save(fake(*size, rename), tmp_path / "other.pth")
    with torch.device("meta"):
        encoder = SAMViT("base")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(encoder, str(tmp_path / "other.pth"))
    assert title.format(title_of_format) in caught.value.what
    assert "the network has 768 channels and 12 blocks" in caught.value.what
    assert caught.value.fix == fix and caught.value.where.endswith("other.pth")


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("image_encoder.trunk.blocks.0.norm1.weight", "SAM 2"),
        ("mask_decoder.hf_token.weight", "HQ-SAM"),
        ("image_encoder.patch_embed.seq.0.c.weight", "MobileSAM"),
    ],
)
def test_networks_of_similar_names_are_named(key, title, tmp_path):
    torch.save({key: torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=f"holds {title}, expected Segment Anything"):
        load_checkpoint(randomise(SAMViT(**VISION)), str(tmp_path / "other.pth"))


def test_weights_of_something_else_are_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="nothing in the checkpoint fits SAMViT"):
        load_checkpoint(SAMViT(**VISION), str(tmp_path / "other.pth"))


def test_formats_by_their_names(state):
    assert sam_format(state) == "Hugging Face"
    assert sam_format(original_state(state)) == "original"
    assert sam_format(mmpretrain_state(state)) == "mmpretrain"
    assert sam_format({"conv.weight": 0}) is None


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        (None, "base"),
        ("facebook/sam-vit-base", "base"),
        ("pretrain/sam-vit-large", "large"),
        ("work/sam-vit-huge/", "huge"),
        ("vit-b-p16_sam", "base"),
        ("sam_vit_h_4b8939.pth", "huge"),
    ],
)
def test_names_of_hugging_face_give_the_size(name, arch):
    assert read_hf_name(name, "vision_config") == (arch, {})


def test_a_folder_gives_its_config(tmp_path):
    config = dict(vision_config=VISION, mask_decoder_config=DECODER)
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = MODELS.build(dict(type="rsfoundation.RSSamVisionEncoder", hf_pretrain_name=str(tmp_path)))
    assert len(encoder.encoder().layers) == 3
    decoder = MODELS.build(dict(type="rsfoundation.RSSamMaskDecoder", hf_pretrain_name=str(tmp_path)))
    assert decoder.mask_decoder.iou_token.weight.shape == (1, 32)


def test_a_name_without_a_size_is_refused():
    with pytest.raises(ConfigError, match="tells no size"):
        read_hf_name("facebook/sam", "vision_config")
