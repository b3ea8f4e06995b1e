"""Window attention at inference against the graph that gradients flow through."""

import pytest
import torch

from rsfoundation.models.backbones.window_attention import WindowAttention, WindowGrid


@pytest.mark.parametrize("shift", [0, 3])
def test_attention_without_gradients_equals_the_form_with_them(shift):
    attention = WindowAttention(8, 8, 2, position_bias=True).eval()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    torch.nn.init.normal_(attention.qkv.bias)
    grid, tokens = WindowGrid(10, 12, shift), torch.randn(2, 10, 12, 8)
    expected = attention(tokens, grid)
    with torch.no_grad():
        torch.testing.assert_close(attention(tokens, grid), expected.detach(), rtol=1e-5, atol=1e-6)


def test_joining_undoes_the_division():
    grid, tokens = WindowGrid(10, 12, 3), torch.randn(2, 10, 12, 8)
    windows = grid.split(tokens)
    assert windows.shape == (2 * 4, 49, 8)
    assert torch.equal(grid.join(windows), tokens)
