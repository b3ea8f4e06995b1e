"""The scan and the convolution on channels-last tokens against selective_scan and torch."""

import pytest
import torch
from torch.nn import functional as F

from rsfoundation.ops.mamba_scan import selective_scan
from rsfoundation.ops.mamba_scan_numba import TokenScan, causal_conv_silu


def operands(batch, length, channels, size):
    torch.manual_seed(0)
    u, delta = torch.randn(batch, length, channels), torch.randn(batch, length, channels) * 3 - 2
    tokens = torch.randn(batch, length, 2 * size)
    return u, delta, tokens, -torch.rand(channels, size) * 8, torch.randn(channels), torch.randn(channels)


def expected_scan(u, delta, tokens, A, D, bias, reverse):
    """By the operator that also has gradients, in double precision."""
    inputs = [x.double().transpose(1, 2) for x in (u, delta)]
    b, c = tokens.double().transpose(1, 2).chunk(2, dim=1)
    rest = dict(D=D.double(), delta_bias=bias.double(), delta_softplus=True, reverse=reverse)
    return selective_scan(inputs[0], inputs[1], A.double(), b, c, **rest).transpose(1, 2)


def scan_tokens(u, delta, tokens, A, D, bias, reverse=False, add_to=None, pieces=1):
    """A whole sequence, in so many pieces."""
    scan = TokenScan(A, D, bias, reverse)
    state, out = scan.start(len(u)), torch.full(u.shape, torch.nan) if add_to is None else add_to
    edges = torch.linspace(0, u.shape[1], pieces + 1).long().tolist()
    spans = [slice(*edges[piece : piece + 2]) for piece in range(pieces)]
    for span in reversed(spans) if reverse else spans:
        part = [x[:, span] for x in (u, delta, tokens)]
        scan.run(*part, state, out, span.start, add=add_to is not None)
    return out


def assert_near(found, expected, tolerance=3e-6):
    assert found.shape == expected.shape
    assert ((found - expected).abs().max() / expected.abs().max()).item() < tolerance


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("batch", "length", "channels", "size"),
    [(1, 1, 1, 1), (2, 37, 5, 3), (3, 64, 64, 4), (2, 100, 130, 16), (1, 1000, 70, 6), (1, 5, 200, 17)],
)
def test_scan(batch, length, channels, size, reverse):
    inputs = operands(batch, length, channels, size)
    expected = expected_scan(*inputs, reverse)
    found = scan_tokens(*inputs, reverse)
    assert_near(found, expected)
    twice = scan_tokens(*inputs, reverse, add_to=found.clone())
    assert_near(twice, 2 * expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_pieces_change_nothing(reverse):
    inputs = operands(2, 60, 70, 5)
    expected = scan_tokens(*inputs, reverse)
    for pieces in (2, 7, 60):
        assert torch.equal(scan_tokens(*inputs, reverse, pieces=pieces), expected)
    x, weight = torch.randn(2, 60, 9), torch.randn(6, 1, 4)
    whole = causal_conv_silu(x, weight, None, reverse)
    parts = [causal_conv_silu(x, weight, None, reverse, slice(at, at + 7)) for at in range(0, 60, 7)]
    assert torch.equal(torch.cat(parts, 1), whole)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads):
    inputs, before = operands(2, 50, 300, 16), torch.get_num_threads()
    expected = scan_tokens(*inputs)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(scan_tokens(*inputs), expected)
    finally:
        torch.set_num_threads(before)


def test_extreme_steps():
    u, delta, tokens, A, D, bias = operands(1, 60, 8, 16)
    for scale in (-100.0, 30.0, 100.0):  # steps of 0, and of hundreds: states vanish at once
        found = scan_tokens(u, delta + scale, tokens, A, D, bias)
        assert_near(found, expected_scan(u, delta + scale, tokens, A, D, bias, False))
    u[0, 30, 2] = float("nan")
    found = scan_tokens(u, delta, tokens, A, D, bias)
    assert found[0, 30:, 2].isnan().all() and found[0, :30].isfinite().all()
    assert found[..., [0, 1, *range(3, 8)]].isfinite().all()


def test_part_of_wider_rows():
    u, delta, tokens, A, D, bias = operands(2, 20, 12, 4)
    wide = torch.randn(2, 20, 40)
    wide[..., 7:19], wide[..., 20:28] = u, tokens
    expected = scan_tokens(u, delta, tokens, A, D, bias)
    assert torch.equal(scan_tokens(wide[..., 7:19], delta, wide[..., 20:28], A, D, bias), expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("taps", "with_bias"), [(4, True), (1, True), (3, False), (7, True)])
def test_convolution(taps, with_bias, reverse):
    torch.manual_seed(0)
    x = torch.randn(3, 25, 80)
    weight, bias = torch.randn(40, 1, taps), torch.randn(40) if with_bias else None
    line = (x.flip(1) if reverse else x)[..., :40].transpose(1, 2)
    expected = F.silu(F.conv1d(F.pad(line, (taps - 1, 0)), weight, bias, groups=40)).transpose(1, 2)
    assert_near(causal_conv_silu(x, weight, bias, reverse), expected.flip(1) if reverse else expected)


def test_convolution_of_fewer_tokens_than_taps():
    x, weight = torch.randn(1, 2, 4), torch.randn(4, 1, 6)
    expected = F.silu(F.conv1d(F.pad(x.transpose(1, 2), (5, 0)), weight, groups=4)).transpose(1, 2)
    assert_near(causal_conv_silu(x, weight, None), expected)
