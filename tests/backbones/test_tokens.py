import pytest
import torch

from rsfoundation.backbones.tokens import WindowAttention, WindowGrid, linear


@pytest.mark.parametrize("size", [(7, 7), (9, 16), (20, 3)])
@pytest.mark.parametrize("shift", [0, 3])
def test_one_pass_equals_padding_rolling_and_cutting(size, shift):
    grid, tokens = WindowGrid(*size, shift), torch.randn(2, *size, 4)
    torch.testing.assert_close(grid.gather(tokens, torch.zeros(4)), grid.split(tokens), rtol=0, atol=0)
    windows = grid.split(tokens)
    torch.testing.assert_close(grid.scatter(windows), grid.join(windows), rtol=0, atol=0)
    torch.testing.assert_close(grid.scatter(grid.gather(tokens, torch.ones(4))), tokens, rtol=0, atol=0)


def test_padding_is_what_is_asked_for():
    windows = WindowGrid(6, 6).gather(torch.zeros(1, 6, 6, 2), torch.tensor([1.0, 2.0]))
    assert windows.shape == (1, 49, 2)
    assert windows.sum(1).tolist() == [[13.0, 26.0]]


@pytest.mark.parametrize("shift", [0, 3])
def test_attention_without_gradients_equals_the_form_with_them(shift):
    attention = WindowAttention(8, 8, 2, position_bias=True).eval()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    torch.nn.init.normal_(attention.qkv.bias)
    grid, tokens = WindowGrid(10, 12, shift), torch.randn(2, 10, 12, 8)
    mask = grid.mask(tokens)
    expected = attention(tokens, grid, mask)
    with torch.no_grad():
        torch.testing.assert_close(attention(tokens, grid, mask), expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("features", [16, 2100])
def test_linear_equals_the_layer_for_narrow_and_wide_inputs(features):
    layer, tokens = torch.nn.Linear(features, 8), torch.randn(2, 3, 5, features)
    torch.testing.assert_close(linear(layer, tokens), layer(tokens), rtol=1e-4, atol=1e-4)
