import pytest
import torch

from rsfoundation.models.backbones.tokens import WindowAttention, WindowGrid, linear


@pytest.mark.parametrize("shift", [0, 3])
def test_attention_without_gradients_equals_the_form_with_them(shift):
    attention = WindowAttention(8, 8, 2, position_bias=True).eval()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    torch.nn.init.normal_(attention.qkv.bias)
    grid, tokens = WindowGrid(10, 12, shift), torch.randn(2, 10, 12, 8)
    expected = attention(tokens, grid)
    with torch.no_grad():
        torch.testing.assert_close(attention(tokens, grid), expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("features", [16, 2100])
def test_linear_equals_the_layer_for_narrow_and_wide_inputs(features):
    layer, tokens = torch.nn.Linear(features, 8), torch.randn(2, 3, 5, features)
    torch.testing.assert_close(linear(layer, tokens), layer(tokens), rtol=1e-4, atol=1e-4)
