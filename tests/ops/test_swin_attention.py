import pytest
import torch

from rsfoundation.ops import window_attention


def by_definition(qkv, heads, padding, bias, shift):
    """Attend window by window in double precision, with every map padded, rolled and cut."""
    qkv, padding, bias = (tensor.double() for tensor in (qkv, padding, bias))
    count, height, width, channels = qkv.shape[0], qkv.shape[1], qkv.shape[2], qkv.shape[3] // 3
    rows, columns = -(-height // 7) * 7, -(-width // 7) * 7
    full = padding.repeat(count, rows, columns, 1)
    full[:, :height, :width] = qkv
    full = full.roll((-shift, -shift), (1, 2))
    # A rolled map holds what came round its edge in its last rows and columns: these are other regions.
    below, right = torch.arange(rows) >= rows - shift, torch.arange(columns) >= columns - shift
    region = 2 * below.long()[:, None] + right
    out = torch.zeros(count, rows, columns, channels).double()
    for top in range(0, rows, 7):
        for left in range(0, columns, 7):
            place = (slice(None), slice(top, top + 7), slice(left, left + 7))
            query, key, value = full[place].reshape(count, 49, 3, heads, -1).permute(2, 0, 3, 1, 4)
            scores = query @ key.transpose(2, 3) / (channels // heads) ** 0.5 + bias
            apart = region[place[1:]].flatten()[:, None] != region[place[1:]].flatten()
            mixed = (scores - 100 * apart).softmax(-1) @ value
            out[place] = mixed.transpose(1, 2).reshape(count, 7, 7, channels)
    return out.roll((shift, shift), (1, 2))[:, :height, :width]


@pytest.mark.parametrize("size", [(7, 7), (1, 1), (9, 16), (20, 3), (22, 15)])
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize(("heads", "channels"), [(1, 5), (2, 16), (3, 96), (1, 40)])
def test_it_is_what_its_definition_says(size, shift, heads, channels):
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, *size, 3 * channels, generator=generator)
    padding = torch.randn(3 * channels, generator=generator)
    bias = torch.randn(heads, 49, 49, generator=generator)
    expected = by_definition(qkv, heads, padding, bias, shift)
    found = window_attention(qkv, heads, padding, bias, shift)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_large_scores_and_no_bias():
    qkv, padding = 6 * torch.randn(1, 14, 14, 48), torch.zeros(48)
    expected = by_definition(qkv, 2, padding, torch.zeros(2, 49, 49), 0)
    torch.testing.assert_close(window_attention(qkv, 2, padding).double(), expected, rtol=1e-4, atol=1e-4)


def test_nan_stays_in_its_window():
    qkv = torch.randn(1, 7, 14, 48)
    qkv[0, 3, 3, 20] = torch.nan  # of a key of the first window
    found = window_attention(qkv, 1, torch.zeros(48))
    assert found[:, :, :7].isnan().all()
    assert found[:, :, 7:].isfinite().all()


def test_views_and_empty_batches():
    qkv, padding = torch.randn(2, 48, 9, 8), torch.randn(48)
    view = qkv.permute(0, 2, 3, 1)
    assert torch.equal(window_attention(view, 2, padding), window_attention(view.contiguous(), 2, padding))
    assert window_attention(view[:0], 2, padding).shape == (0, 9, 8, 16)


@pytest.mark.parametrize(
    ("qkv", "word"), [(torch.zeros(1, 7, 7, 20), "20"), (torch.zeros(1, 7, 7, 12).double(), "float64")]
)
def test_what_it_does_not_take(qkv, word):
    with pytest.raises(ValueError, match=word):
        window_attention(qkv, 2, torch.zeros(qkv.shape[-1]))
