"""Shared layers: the fast ways give the results of the plain ones, and are not taken for wrapped layers."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from rsfoundation.models.layers import (
    FastConv2d,
    TokenMLP,
    conv_norm,
    depthwise_half,
    is_plain,
    linear,
    use_fast_convolutions,
)


@pytest.fixture
def two_threads():
    """The fast way is taken from two threads on."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("features", [16, 2100])
def test_linear_equals_the_layer_for_narrow_and_wide_inputs(features, two_threads):
    layer, tokens = torch.nn.Linear(features, 8), torch.randn(2, 30, 50, features)
    torch.testing.assert_close(linear(layer, tokens), layer(tokens), rtol=1e-4, atol=1e-4)


class _Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class _Wrapper(nn.Module):
    """As adapters do: has the weight of its layer, and computes something else."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    weight = property(lambda self: self.layer.weight)

    def forward(self, x):
        return self.layer(x) + 1


def test_a_wrapped_layer_is_called(two_threads):
    layer, tokens = nn.Linear(16, 8), torch.randn(2, 30, 50, 16)
    assert is_plain(layer, nn.Conv2d(1, 1, 1))
    assert not is_plain(layer, _Wrapper(layer))
    assert torch.equal(linear(_Wrapper(layer), tokens), layer(tokens) + 1)
    parametrize.register_parametrization(layer, "weight", _Doubled())
    assert not is_plain(layer)


def test_the_chunked_mlp_equals_the_training_graph(monkeypatch):
    monkeypatch.setattr("rsfoundation.models.layers._CHUNK_BYTES", 4096)
    mlp, norm, tokens = TokenMLP(8, 32).eval(), nn.LayerNorm(8), torch.randn(2, 9, 11, 8)
    expected = mlp.add_to(tokens, norm, nn.Identity())
    with torch.no_grad():
        found = mlp.add_to(tokens, norm, nn.Identity())
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_two_channels_of_each(stride, bias):
    conv = nn.Conv2d(6, 12, 3, stride, 1, groups=6, bias=bias).eval()
    x = torch.randn(2, 6, 9, 10).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for half in range(2):
            torch.testing.assert_close(depthwise_half(conv, x, half), conv(x)[:, half::2])


@pytest.mark.parametrize("side", [2, 16])  # more weights than results, and fewer
def test_norms_folded_into_weights_or_applied_to_the_map(side):
    conv, norm = nn.Conv2d(8, 4, 3, padding=1, bias=False).eval(), nn.BatchNorm2d(4).eval()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 8, side, side)
    with torch.no_grad():
        torch.testing.assert_close(conv_norm(conv, norm, x), norm(conv(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (dict(kernel_size=1), "_PointwiseConv2dBackward"),
        (dict(kernel_size=(3, 5), padding=(1, 2)), "_NarrowConv2dBackward"),
        (dict(kernel_size=1, stride=2), None),
        (dict(kernel_size=1, groups=2), None),
        (dict(kernel_size=3, padding=1, dilation=2), None),
        (dict(kernel_size=3, padding=0), None),
        (dict(kernel_size=3, padding="same"), None),
        (dict(kernel_size=4, padding=2), None),
        (dict(kernel_size=3, padding=1, padding_mode="reflect"), None),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_fast_convolution_equals_torch_s(arguments, ours, bias, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    torch.manual_seed(0)
    fast = FastConv2d(2, 4, bias=bias, **arguments)
    plain = torch.nn.Conv2d(2, 4, bias=bias, **arguments)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(2, 2, 9, 10).contiguous(memory_format=torch.channels_last)
    found, wanted = fast(x), plain(x)
    assert (type(found.grad_fn).__name__ == ours) if ours else found.grad_fn.name() == wanted.grad_fn.name()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    (found * found).sum().backward()
    (wanted * wanted).sum().backward()
    for our, their in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-4, atol=1e-4)


def test_plain_convolutions_of_a_model_become_fast_ones(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 1),
        torch.nn.ConvTranspose2d(5, 5, 2),
        torch.nn.Sequential(torch.nn.Conv2d(5, 2, 3), FastConv2d(2, 2, 1)),
    )
    x = torch.randn(1, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    names, wanted = list(model.state_dict()), model(x)
    assert use_fast_convolutions(model) == 2
    assert use_fast_convolutions(model) == 0
    assert list(model.state_dict()) == names and type(model[1]) is torch.nn.ConvTranspose2d
    torch.testing.assert_close(model(x), wanted, rtol=0, atol=0)
    assert "Pointwise" in model[0](x).grad_fn.name()


def test_a_wide_3x3_convolution_is_torch_s():
    x = torch.randn(1, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    assert "Narrow" not in FastConv2d(8, 8, 3, padding=1)(x).grad_fn.name()
    assert is_plain(FastConv2d(8, 8, 3))
