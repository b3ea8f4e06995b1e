"""The Triton kernels: by Triton's interpreter on the CPU, and on a GPU where there is one."""

import os
import subprocess
import sys
import types

import pytest
import torch

from rsfoundation.ops import mamba_scan, mamba_scan_torch, selective_scan
from rsfoundation.ops.mamba_scan_torch import Direction, Operands

pytest.importorskip("triton")
VARIABLE = "TRITON_INTERPRET"  # Triton reads it when it is imported, so a process of its own is needed
interpreted = pytest.mark.skipif(os.environ.get(VARIABLE) != "1", reason=f"needs {VARIABLE}=1")


@pytest.mark.skipif(not mamba_scan._triton_is_usable(), reason="the kernels need Triton 3.6")
def test_the_interpreted_tests_pass():
    if os.environ.get(VARIABLE) == "1":
        pytest.skip("this is that process")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(command, env=os.environ | {VARIABLE: "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
    assert f"{len(CASES) + 3} passed" in run.stdout


@pytest.mark.parametrize(("version", "module"), [("3.0.0", "torch"), ("3.6.0", "triton")])
def test_an_old_triton_is_left_alone(monkeypatch, version, module):
    monkeypatch.setattr("triton.__version__", version)
    mamba_scan._triton_is_usable.cache_clear()
    on_gpu = types.SimpleNamespace(device=types.SimpleNamespace(type="cuda"))
    try:
        assert mamba_scan._implementation(on_gpu).__name__.endswith(f"mamba_scan_{module}")
    finally:
        mamba_scan._triton_is_usable.cache_clear()


def example(length, states, groups, left_out=(), dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(length)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    operands = Operands(
        draw(2, 4, length), draw(2, 4, length), -draw(4, states).exp(), draw(2, groups, states, length),
        draw(2, groups, states, length), draw(4), draw(2, 4, length), draw(4),
    )  # fmt: skip
    return operands._replace(**dict.fromkeys(left_out)), draw(2, 4, states), draw(2, 4, length)


def compare(one, other, **close):
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **close)


CASES = [
    (1, 4, 1, (), True, False),
    (70, 4, 2, (), True, False),
    (130, 3, 1, (), True, True),
    (66, 4, 1, ("D", "z", "bias"), False, True),
]


@interpreted
@pytest.mark.parametrize(("length", "states", "groups", "left_out", "softplus", "reverse"), CASES)
def test_equals_the_plain_path(length, states, groups, left_out, softplus, reverse):
    from rsfoundation.ops import mamba_scan_triton

    operands, state, grad = example(length, states, groups, left_out)
    if not softplus:
        operands = operands._replace(delta=operands.delta.abs() * 0.1)
    direction = Direction(softplus, reverse)
    one, other = (
        module.forward(operands, direction, state) for module in (mamba_scan_triton, mamba_scan_torch)
    )
    compare(one, other)
    args = (operands, direction, other.marks, grad, torch.ones_like(state))
    one, other = (module.backward(*args) for module in (mamba_scan_triton, mamba_scan_torch))
    compare(one.operands, other.operands, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(one.state, other.state)


@interpreted
def test_no_tokens():
    from rsfoundation.ops import mamba_scan_triton

    operands, state, grad = example(0, 4, 1)
    result = mamba_scan_triton.forward(operands, Direction(True, False), state)
    assert result.out.shape == (2, 4, 0)
    assert torch.equal(result.state, state)
    grads = mamba_scan_triton.backward(operands, Direction(True, False), result.marks, grad, state)
    assert torch.equal(grads.state, state)
    assert grads.operands[2].abs().sum() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("reverse", [False, True])
def test_on_a_gpu_equals_the_cpu(reverse):
    operands, _, grad = example(1000, 16, 1, dtype=torch.float32)
    results = []
    for device in ("cpu", "cuda"):
        leaves = [tensor.to(device).requires_grad_() for tensor in operands]
        out = selective_scan(*leaves, delta_softplus=True, reverse=reverse)
        results.append([out, *torch.autograd.grad(out, leaves, grad.to(device))])
    compare(*([tensor.cpu() for tensor in tensors] for tensors in results), atol=1e-3, rtol=1e-4)
