import torch
from prompt_models import SIZE, VISION

from rsfoundation.models.encoders.sam_extras import NoisyMixtureOfExperts
from rsfoundation.registry import MODELS


def build(kind, **options):
    torch.manual_seed(0)
    return MODELS.build(dict(type=f"rsfoundation.{kind}", extra_config=VISION, **options))


def dense(layer, x):
    """Every expert on every token, as published."""
    gates = layer.gate(x).softmax(-1)
    weight, chosen = gates.max(-1, keepdim=True)
    outputs = torch.stack([expert(x) for expert in layer.experts], dim=-2)
    index = chosen[..., None].expand(*chosen.shape, outputs.shape[-1])
    return weight * layer.projection(outputs.gather(-2, index)[..., 0, :])


def test_one_expert_a_token_gives_what_all_of_them_give_with_the_same_gradients():
    torch.manual_seed(1)
    layer = NoisyMixtureOfExperts(8, noise_scale=0.0)
    x = torch.randn(2, 3, 5, 8, requires_grad=True)
    torch.testing.assert_close(layer(x), dense(layer, x))
    (own,) = torch.autograd.grad(layer(x).square().sum(), x)
    (theirs,) = torch.autograd.grad(dense(layer, x).square().sum(), x)
    torch.testing.assert_close(own, theirs)


def test_every_expert_has_a_gradient_also_when_no_token_takes_it():
    layer = NoisyMixtureOfExperts(8)
    layer(torch.randn(1, 8)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_noise_is_there_in_training_alone():
    torch.manual_seed(1)
    layer, x = NoisyMixtureOfExperts(8, noise_scale=5.0), torch.randn(64, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_encoder_of_experts_sees_the_whole_map_in_every_block():
    encoder = build("RSSamVisionEncoder_moe")
    assert {layer.attn.window for layer in encoder.vision_encoder.layers} == {0}
    assert "vision_encoder.layers.1.mlp.experts.7.weight" in encoder.state_dict()
    (out,) = encoder(torch.randn(1, 3, SIZE, SIZE))
    assert out.shape == (1, 32, 4, 4) and torch.isfinite(out).all()


def test_pruned_weights_stay_zero_in_training():
    encoder = build("RSSamVisionEncoder_prue", amount=0.25)
    plain = set(build("RSSamVisionEncoder").state_dict())
    encoder.init_weights()
    assert set(encoder.state_dict()) == plain
    weight = encoder.vision_encoder.layers[0].mlp.lin1.weight
    zeros = weight == 0
    assert zeros.float().mean() == 0.25
    assert weight[~zeros].abs().min() > 0
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    for _ in range(2):
        encoder(torch.randn(1, 3, SIZE, SIZE))[0].square().sum().backward()
        optimiser.step()
    encoder(torch.randn(1, 3, SIZE, SIZE))
    assert torch.equal(weight == 0, zeros)
