"""Prompt encoder, mask decoder and the whole SAM against the installed transformers."""

import pytest
import torch
from hf_sam import DECODER, PROMPT, VISION, assert_equal_maps, hf_sam

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.prompt.sam import SAM
from rsfoundation.models.prompt.sam_decoder import SAMMaskDecoder
from rsfoundation.models.prompt.sam_prompt import SAMPositionalEmbedding, SAMPromptEncoder
from rsfoundation.registry import MODELS


@pytest.fixture(scope="module")
def pair():
    """A SAM of transformers and ours with its weights."""
    hf = hf_sam()
    ours = SAM(vision_config=VISION, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER).eval()
    ours.load_state_dict(hf.state_dict())
    return hf, ours


POINTS = torch.tensor([[[[20.0, 30.0], [90.0, 64.0]]], [[[5.0, 120.0], [0.0, 0.0]]]])
LABELS = torch.tensor([[[1, 0]], [[1, -1]]])
BOXES = torch.tensor([[[10.0, 12.0, 60.0, 70.0]], [[30.0, 5.0, 100.0, 127.0]]])
MASKS = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
PROMPTS = [
    dict(input_points=POINTS, input_labels=LABELS),
    dict(input_points=POINTS, input_labels=torch.tensor([[[0, -10]], [[1, 1]]])),
    dict(input_boxes=BOXES.repeat(1, 3, 1) + torch.arange(3.0).view(1, 3, 1)),
    dict(input_boxes=BOXES, input_masks=MASKS),
    dict(input_points=POINTS, input_labels=LABELS, input_boxes=BOXES),
    dict(input_masks=MASKS),
]


@pytest.mark.parametrize("prompts", PROMPTS, ids=lambda prompts: "+".join(prompts))
def test_prompt_encoder_equals_transformers(pair, prompts):
    hf, ours = pair
    names = ("input_points", "input_labels", "input_boxes", "input_masks")
    expected = hf.prompt_encoder(**{name: prompts.get(name) for name in names})
    found = ours.prompt_encoder(**prompts)
    for value, wanted in zip(found, expected, strict=True):
        assert (value is None) == (wanted is None)
        if value is not None:
            assert_equal_maps(value, wanted)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompts", PROMPTS, ids=lambda prompts: "+".join(prompts))
def test_whole_model_equals_transformers(pair, prompts, multimask):
    hf, ours = pair
    image = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        expected = hf(pixel_values=image, multimask_output=multimask, **prompts)
        found = ours(image, multimask_output=multimask, **prompts)
        embedded = ours(image_embeddings=ours.embed_image(image), multimask_output=multimask, **prompts)
    assert found.pred_masks.shape[2] == (3 if multimask else 1)
    for result in (found, embedded):
        assert_equal_maps(result.pred_masks, expected.pred_masks)
        assert_equal_maps(result.iou_scores, expected.iou_scores)


def test_decoder_takes_a_target_and_a_similarity(pair):
    hf, ours = pair
    torch.manual_seed(0)
    embeddings, positions, dense = (torch.randn(2, 32, 8, 8) for _ in range(3))
    sparse, similarity, target = torch.randn(2, 3, 4, 32), torch.randn(1, 1, 9, 64), torch.randn(1, 1, 32)
    rest = (sparse, dense, True, similarity, target)
    expected = hf.mask_decoder(embeddings, positions, *rest)
    for found, wanted in zip(ours.mask_decoder(embeddings, positions, *rest), expected, strict=True):
        assert_equal_maps(found, wanted)


def test_every_hypernetwork_gets_a_gradient():
    decoder = SAMMaskDecoder(**DECODER)
    maps, sparse = torch.randn(1, 32, 8, 8), torch.randn(1, 2, 3, 32)
    masks, iou = decoder(maps, maps, sparse, maps, multimask_output=False)
    (masks.sum() + iou.sum()).backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_wide_embedding_by_its_definition():
    embedding = SAMPositionalEmbedding(4)
    wide = embedding.image_wide((2, 3))
    assert wide.shape == (1, 8, 2, 3)
    centre = torch.tensor([(2 + 0.5) / 3, (1 + 0.5) / 2])
    angles = 2 * torch.pi * ((2 * centre - 1) @ embedding.positional_embedding)
    torch.testing.assert_close(wide[0, :, 1, 2], torch.cat([angles.sin(), angles.cos()]))
    pixels = embedding(torch.tensor([[30.0, 10.0]]), (20, 40))
    torch.testing.assert_close(pixels, embedding(torch.tensor([[0.75, 0.5]])))


def test_neighbouring_cells_have_like_positions_from_random_weights():
    torch.manual_seed(0)
    wrapper = MODELS.build(
        dict(type="rsfoundation.RSSamPositionalEmbedding", hf_pretrain_name="sam-vit-base")
    )
    sam = SAM(vision_config=VISION, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER)
    for embedding in (wrapper.shared_image_embedding, sam.shared_image_embedding):
        assert embedding.positional_embedding.std().item() == pytest.approx(1, abs=0.25)
        assert not list(embedding.parameters()), "frequencies are not trained"
        cells = embedding.image_wide(64)[0]
        assert torch.cosine_similarity(cells[:, :, 1:], cells[:, :, :-1], dim=0).mean() > 0.9
        assert torch.cosine_similarity(cells[:, :, 32:], cells[:, :, :-32], dim=0).mean().abs() < 0.5


def test_errors_name_the_input():
    encoder = SAMPromptEncoder(**PROMPT)
    with pytest.raises(ConfigError, match="points need labels"):
        encoder(input_points=POINTS)
    with pytest.raises(ConfigError, match="without a positional embedding"):
        encoder(input_boxes=BOXES)
    with pytest.raises(ConfigError, match="did you mean 'mlp_dim'"):
        SAM(vision_config=VISION, mask_decoder_config=dict(mlp_dims=3))
    model = SAM(vision_config=VISION, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER)
    with pytest.raises(ConfigError, match="one of pixel_values and image_embeddings"):
        model(input_boxes=BOXES)


def test_parts_are_registered():
    for name in ("SAM", "SAMPromptEncoder", "SAMMaskDecoder", "SAMPositionalEmbedding"):
        assert MODELS.get(f"rsfoundation.{name}") is not None
