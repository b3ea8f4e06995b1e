import ctypes
import importlib.machinery
import importlib.util
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfoundation.ops import mamba_scan as module
from rsfoundation.ops import mamba_scan_torch, scan_both_ways, scan_with_state, selective_scan
from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.mamba_scan_torch import Direction, Operands


def plain_loop(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """The recurrence as it is written in the paper."""
    dt = delta if delta_bias is None else delta + delta_bias[:, None]
    dt = F.softplus(dt) if delta_softplus else dt
    state, outputs = torch.zeros(*u.shape[:2], A.shape[1], dtype=u.dtype), []
    for t in range(u.shape[2]):
        drive = (dt[:, :, t] * u[:, :, t])[..., None] * B[:, None, :, t]
        state = (dt[:, :, t, None] * A).exp() * state + drive
        outputs.append((state * C[:, None, :, t]).sum(-1))
    y = torch.stack(outputs, 2)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * F.silu(z)


def example(length, batch=2, channels=6, states=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return dict(
        u=draw(batch, channels, length),
        delta=draw(batch, channels, length),
        A=-draw(channels, states).exp(),
        B=draw(batch, states, length),
        C=draw(batch, states, length),
        D=draw(channels),
        z=draw(batch, channels, length),
        delta_bias=draw(channels),
        delta_softplus=True,
    )


OPTIONAL = ("D", "z", "delta_bias")


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("left_out", [(), ("z",), OPTIONAL])
def test_equals_the_plain_loop_forward_and_backward(length, left_out):
    data = {k: v for k, v in example(length).items() if k not in left_out}
    leaves = [v.requires_grad_() for v in data.values() if isinstance(v, torch.Tensor)]
    ours, expected = selective_scan(**data), plain_loop(**data)
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(expected)
    ours, expected = (torch.autograd.grad((y * weights).sum(), leaves) for y in (ours, expected))
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_gradcheck_with_states():
    data = example(7, batch=1, channels=2, states=3)
    state = torch.randn(1, 2, 3, dtype=torch.float64).requires_grad_()
    tensors = [v.requires_grad_() for v in data.values() if isinstance(v, torch.Tensor)]
    assert torch.autograd.gradcheck(
        lambda *args: scan_with_state(*args[:8], True, initial_state=args[8]), (*tensors, state)
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("left_out", [(), OPTIONAL])
def test_torch_path_equals_compiled_path(reverse, left_out):
    from rsfoundation.ops import mamba_scan_numba

    data = example(150)
    data |= {"B": data["B"][:, None], "C": data["C"][:, None]} | dict.fromkeys(left_out)
    operands = Operands(*list(data.values())[:8])
    direction = Direction(True, reverse)
    state = torch.randn(2, 6, 4, dtype=torch.float64)
    one, other = (
        module.forward(operands, direction, state) for module in (mamba_scan_numba, mamba_scan_torch)
    )
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
    args = (operands, direction, one.marks, torch.randn_like(one.out), torch.randn_like(state))
    one, other = (module.backward(*args) for module in (mamba_scan_numba, mamba_scan_torch))
    torch.testing.assert_close(one.state, other.state)
    for a, b in zip(one.operands, other.operands, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(0, 200), st.booleans())
def test_any_cut_gives_the_same_numbers(length, cut, softplus):
    data = example(length, dtype=torch.float32, seed=length)
    data["delta_softplus"] = softplus
    if not softplus:
        data["delta"] = data["delta"].abs() * 0.1
        data["delta_bias"] = None
    whole, last = scan_with_state(**data)
    cut = min(cut, length)
    tokenwise = ("u", "delta", "B", "C", "z")
    head = {k: v[..., :cut] if k in tokenwise else v for k, v in data.items()}
    tail = {k: v[..., cut:] if k in tokenwise else v for k, v in data.items()}
    first, state = scan_with_state(**head)
    second, end = scan_with_state(**tail, initial_state=state)
    torch.testing.assert_close(torch.cat([first, second], 2), whole, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(end, last, atol=1e-6, rtol=1e-6)


def test_reverse_and_both_ways():
    data = example(90)
    flipped = {k: v.flip(-1) if k in ("u", "delta", "B", "C", "z") else v for k, v in data.items()}
    back = selective_scan(**data, reverse=True)
    torch.testing.assert_close(back, selective_scan(**flipped).flip(-1))
    torch.testing.assert_close(scan_both_ways(**data), selective_scan(**data) + back)


def test_groups_share_their_inputs():
    data = example(50)
    one, two = data["B"], data["B"].flip(1)
    grouped = selective_scan(
        **(data | {"B": torch.stack([one, two], 1), "C": data["C"][:, None].repeat(1, 2, 1, 1)})
    )
    torch.testing.assert_close(grouped[:, :3], selective_scan(**data)[:, :3])
    torch.testing.assert_close(grouped[:, 3:], selective_scan(**(data | {"B": two}))[:, 3:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_types_carry_the_state_in_single_precision(dtype):
    data = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in example(300).items()}
    wide = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in data.items()}
    out, state = scan_with_state(**data)
    assert (out.dtype, state.dtype) == (dtype, torch.float32)
    expected, last = scan_with_state(**wide)
    torch.testing.assert_close(out, expected.to(dtype))
    torch.testing.assert_close(state.double(), last, atol=1e-5, rtol=1e-5)


def test_runs_under_autocast():
    data = example(40, dtype=torch.float32)
    plain = selective_scan(**data)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = selective_scan(**(data | {"B": data["B"].bfloat16(), "delta": data["delta"].bfloat16()}))
    torch.testing.assert_close(mixed, plain, atol=0.1, rtol=0.1)


def test_no_tokens():
    data = example(0)
    state = torch.ones(2, 6, 4, dtype=torch.float64)
    out, last = scan_with_state(**data, initial_state=state)
    assert out.shape == (2, 6, 0)
    assert torch.equal(last, state)


def test_operator_contract():
    data = example(70, dtype=torch.float64)
    tensors = [data[k].requires_grad_() for k in ("u", "delta", "A")]
    tensors += [data[k][:, None].requires_grad_() for k in ("B", "C")]
    state = torch.zeros(2, 6, 4, dtype=torch.float64)
    args = (*tensors, data["D"], data["z"], None, True, False, state)
    torch.library.opcheck(torch.ops.rsfoundation.selective_scan.default, args)


def test_compiles_into_one_graph():
    data = example(30, dtype=torch.float32)
    flags = data.pop("delta_softplus")
    compiled = torch.compile(
        lambda **kw: selective_scan(**kw, delta_softplus=flags), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(**data), selective_scan(**data, delta_softplus=flags))


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="the export needs torch 2.7 or newer")
def test_exports_without_operators_of_ours():
    class Layer(torch.nn.Module):
        def forward(self, u, delta, A, B, C):
            return selective_scan(u, delta, A, B, C, delta_softplus=True)

    data = example(100, dtype=torch.float32)
    args = tuple(data[k] for k in ("u", "delta", "A", "B", "C"))
    program = torch.export.export(Layer(), args)
    assert "rsfoundation" not in program.graph_module.code
    torch.testing.assert_close(program.module()(*args), Layer()(*args), atol=1e-5, rtol=1e-4)


@pytest.fixture
def mamba(monkeypatch):
    """A module in place of mamba_ssm, and a tensor that says it is on a GPU."""
    module = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = lambda *args: args
    package = types.ModuleType("mamba_ssm")
    package.__spec__ = importlib.machinery.ModuleSpec("mamba_ssm", None)
    monkeypatch.setitem(sys.modules, "mamba_ssm", package)
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", module)
    return module.selective_scan_fn


@pytest.mark.parametrize(
    ("on_gpu", "dtype", "choice", "taken"),
    [
        (True, torch.float32, "auto", True),
        (True, torch.bfloat16, "mmcv", True),
        (True, torch.float32, "builtin", False),
        (True, torch.float64, "auto", False),
        (False, torch.float32, "auto", False),
    ],
)
def test_mamba_ssm_is_used_where_it_can(monkeypatch, mamba, on_gpu, dtype, choice, taken):
    monkeypatch.setenv("RSF_OPS", choice)
    u = types.SimpleNamespace(is_cuda=on_gpu, dtype=dtype)
    assert module._mamba(u) is (mamba if taken else None)
    if taken:
        assert selective_scan(u, 1, 2, 3, 4, delta_softplus=True) == (u, 1, 2, 3, 4, None, None, None, True)


def test_mamba_ssm_is_not_needed(monkeypatch):
    monkeypatch.delenv("RSF_OPS", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert module._mamba(types.SimpleNamespace(is_cuda=True, dtype=torch.float32)) is None


def test_rejects_shapes_that_do_not_fit():
    data = example(10)
    with pytest.raises(OperatorInputError, match="do not fit"):
        selective_scan(**(data | {"B": data["B"][..., :9]}))
    with pytest.raises(OperatorInputError, match=r"u \(b, i, l\)"):
        selective_scan(**(data | {"u": data["u"][0]}))


@pytest.mark.skipif(sys.platform != "linux", reason="dirties the heap through glibc")
def test_memory_that_holds_nan_does_not_leak_into_the_result():
    """Kernels work in uninitialised memory: fill freed blocks of the sizes they ask for with NaN first."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    data = example(200, dtype=torch.float32)
    expected = selective_scan(**data)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # worker threads have heaps of their own
    try:
        blocks = [(libc.malloc(size), size) for size in range(512, 4096, 16) for _ in range(6)]
        for block, size in blocks:
            ctypes.memset(block, 0xFF, size)
        for block, _ in blocks:
            libc.free(block)
        torch.testing.assert_close(selective_scan(**data), expected)
    finally:
        torch.set_num_threads(threads)
