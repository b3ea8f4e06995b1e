"""Exponential and logarithm, in ``straight`` functions, that the compiler turns into vector instructions."""

import gc
import inspect
from collections.abc import Callable
from threading import RLock
from typing import Any, NamedTuple, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, event
from numba.extending import intrinsic


class _CollectorPause(event.Listener):
    """Python's garbage collector rests while numba compiles or reads its cache: a third of the time."""

    def __init__(self) -> None:
        self._lock, self._depth, self._was_on = RLock(), 0, False

    def on_start(self, event: event.Event) -> None:
        """Switch it off when the first thread asks for numba's lock."""
        with self._lock:
            if not self._depth:
                self._was_on = gc.isenabled()
                gc.disable()
            self._depth += 1

    def on_end(self, event: event.Event) -> None:
        """Switch it on again, if it was on, when the last thread has released the lock."""
        with self._lock:
            self._depth -= 1
            if not self._depth and self._was_on:
                gc.enable()


event.register("numba:compiler_lock", _CollectorPause())

# The error model of numpy: a division by zero gives infinity, and costs no branch.
kernel = njit(cache=True, nogil=True, error_model="numpy")
inlined = njit(inline="always", error_model="numpy")

# For arithmetic that gains from fused multiply-adds.
fused_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})

# For sums whose order may change, which lets them vectorise; NaN and infinity keep their meaning.
summing_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Silent:
    """Stands for numba's context and builder while only the types of results are asked for."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


class _Code(NamedTuple):
    """Where instructions go: numba's context and llvmlite's builder."""

    context: Any
    builder: Any


class Value:
    """A number that the kernel will hold, or several of one type side by side (see ``pack``).

    Attributes:
        kind: Its type in numba.
        ir: Its name in the code.
        code: Where operations on it go.
    """

    def __init__(self, kind: Any, name: Any, code: _Code) -> None:
        self.kind, self.ir, self.code = kind, name, code

    def emit(self, of_float: str, of_int: str, *others: Any) -> "Value":
        """Return what an instruction makes of this value and others of its type."""
        name = of_float if isinstance(self.kind, types.Float) else of_int
        operands = [self, *(self._alike(other) for other in others)]
        result = getattr(self.code.builder, name)(*(value.ir for value in operands))
        return Value(self.kind, result, self.code)

    def compare(self, sign: str, other: Any) -> "Value":
        """Return whether the relation holds; of NaN only ``!=`` does."""
        builder, other = self.code.builder, self._alike(other)
        of_float = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        compare = of_float if isinstance(self.kind, types.Float) else builder.icmp_signed
        return Value(types.boolean, compare(sign, self.ir, other.ir), self.code)

    def _alike(self, other: Any) -> "Value":
        if not isinstance(other, Value):
            several = isinstance(self.ir, ir.Value) and isinstance(self.ir.type, ir.VectorType)
            number = [other] * self.ir.type.count if several else other
            return Value(self.kind, self.ir and ir.Constant(self.ir.type, number), self.code)
        if other.kind != self.kind:
            raise TypeError(f"an operation of {self.kind} and {other.kind}")
        return other

    def __neg__(self) -> "Value":
        return self.emit("fneg", "neg")

    def __abs__(self) -> "Value":
        return where(self.compare("<", 0), -self, self)


def _operator(of_float: str, of_int: str) -> Callable[[Value, Any], Value]:
    return lambda self, other: self.emit(of_float, of_int, other)


def _swapped(of_float: str, of_int: str) -> Callable[[Value, Any], Value]:
    return lambda self, other: self._alike(other).emit(of_float, of_int, self)


def _relation(sign: str) -> Callable[[Value, Any], Value]:
    return lambda self, other: self.compare(sign, other)


_OPERATORS = {
    "add": ("fadd", "add"),
    "sub": ("fsub", "sub"),
    "mul": ("fmul", "mul"),
    "truediv": ("fdiv", "no division of integers"),
    "floordiv": ("no //", "udiv"),
    "mod": ("no %", "urem"),
    "and": ("no &", "and_"),
    "or": ("no |", "or_"),
    "xor": ("no ^", "xor"),
    "lshift": ("no <<", "shl"),
}
for _name, _instructions in _OPERATORS.items():
    setattr(Value, f"__{_name}__", _operator(*_instructions))
    setattr(Value, f"__r{_name}__", _swapped(*_instructions))
for _name, _sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}.items():
    setattr(Value, f"__{_name}__", _relation(_sign))


class Array:
    """An array: ``array[i, j]`` is a ``Value``, read or written; ``array.shape`` is a tuple of them."""

    def __init__(self, kind: Any, name: Any, code: _Code) -> None:
        self.kind, self.code = kind, code
        make = code.context.make_array(kind)
        self._array = make and make(code.context, code.builder, name)
        sizes = _split(code, self._array and self._array.shape, kind.ndim)
        self.shape = tuple(Value(types.intp, size, code) for size in sizes)

    def __getitem__(self, place: Any) -> Value:
        number = self.code.context.unpack_value(self.code.builder, self.kind.dtype, self._pointer(place))
        return Value(self.kind.dtype, number, self.code)

    def __setitem__(self, place: Any, value: Any) -> None:
        number = self[place]._alike(value).ir
        self.code.context.pack_value(self.code.builder, self.kind.dtype, number, self._pointer(place))

    def load(self, place: Any, count: int) -> Value:
        """Return so many numbers, from a place on along the last dimension, side by side (see ``pack``)."""
        pointer, kind = self._several(place, count), self.kind.dtype
        return Value(kind, pointer and self.code.builder.load(pointer, align=kind.bitwidth // 8), self.code)

    def store(self, place: Any, value: Value) -> None:
        """Write numbers that are side by side, from a place on along the last dimension."""
        if self._array:
            pointer = self._several(place, value.ir.type.count)
            self.code.builder.store(value.ir, pointer, align=self.kind.dtype.bitwidth // 8)

    def _several(self, place: Any, count: int) -> Any:
        """Return where several numbers begin; they lie side by side, and need not be aligned."""
        pointer = self._pointer(place)
        several = pointer and ir.VectorType(pointer.type.pointee, count).as_pointer()
        return pointer and self.code.builder.bitcast(pointer, several)

    def _pointer(self, place: Any) -> Any:
        places = place if isinstance(place, tuple) else (place,)
        indices = [self.shape[0]._alike(index).ir for index in places]
        return self._array and cgutils.get_item_pointer(*self.code, self.kind, self._array, indices)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """Return ``yes`` where the condition holds, else ``no``; one of them may be a plain number."""
    yes, no = (yes, yes._alike(no)) if isinstance(yes, Value) else (no._alike(yes), no)
    return Value(yes.kind, yes.code.builder.select(condition.ir, yes.ir, no.ir), yes.code)


def smaller(a: Any, b: Any) -> Any:
    """Return the smaller of a value and another or a plain number; ``a`` if either is NaN, like ``min``."""
    return where(a._alike(b) < a, b, a)


def larger(a: Any, b: Any) -> Any:
    """Return the larger of a value and another or a plain number; ``a`` if either is NaN, like ``max``."""
    return where(a._alike(b) > a, b, a)


def clamp(a: Any, low: Any, high: Any) -> Any:
    """Return ``a`` between two bounds."""
    return smaller(larger(a, low), high)


def convert(value: Any, kind: Any) -> Any:
    """Return a value in another type of numba; floats are cut towards zero when they become integers."""
    context, builder = value.code
    return Value(kind, context.cast(builder, value.ir, value.kind, kind), value.code)


def reinterpret(value: Any, kind: Any) -> Any:
    """Return the bits of a value as another type of numba of the same size."""
    context, builder = value.code
    return Value(kind, builder.bitcast(value.ir, context.get_value_type(kind)), value.code)


def call(name: str, value: Any) -> Any:
    """Return LLVM's function of a float (``llvm.floor``), or C's of a float64 (``log1p``)."""
    builder = value.code.builder
    if value.ir and name.startswith("llvm."):
        function = builder.module.declare_intrinsic(name, [value.ir.type])
    elif value.ir:
        function = cgutils.insert_pure_function(
            builder.module, ir.FunctionType(value.ir.type, [value.ir.type]), name
        )
    return Value(value.kind, value.ir and builder.call(function, [value.ir]), value.code)


def pack(*values: Any) -> Any:
    """Return values of one type side by side; an operation on them is one instruction for all."""
    first, builder = values[0], values[0].code.builder
    result = first.ir and ir.Constant(ir.VectorType(first.ir.type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        result = builder.insert_element(result, value.ir, ir.Constant(ir.IntType(32), i))
    return Value(first.kind, result, first.code)


def unpack(value: Any, count: int) -> tuple[Any, ...]:
    """Return what ``pack`` took."""
    places = [ir.Constant(ir.IntType(32), i) for i in range(count)]
    extract = value.code.builder.extract_element
    return tuple(Value(value.kind, extract(value.ir, place), value.code) for place in places)


def straight(function: _Function) -> Any:
    """Make a function of kernels out of one of values; it returns a value, None, or a tuple of such.

    Straight functions cannot call it any more.
    """
    parameters = list(inspect.signature(function).parameters.values())

    def define(context: Any, *given: Any) -> tuple[Any, Callable[..., Any]]:
        kinds = [types.unliteral(kind) for kind in given]
        silent = _Silent()
        result = function(*(_argument(kind, None, _Code(silent, silent)) for kind in kinds))
        kind = _kind_of(result)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = _Code(context, builder)
            result = function(*(_argument(*pair, code) for pair in zip(kinds, args, strict=True)))
            return _joined(code, result)

        return kind(*kinds), generate

    # numba reads from here how many arguments there are; the first is its own.
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY)
    define.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
    define.__name__ = function.__name__
    return intrinsic(define)


def _kind_of(result: Any) -> Any:
    if isinstance(result, tuple):
        return types.Tuple([_kind_of(part) for part in result])
    return types.none if result is None else result.kind


def _joined(code: _Code, result: Any) -> Any:
    if isinstance(result, tuple):
        parts = [_joined(code, part) for part in result]
        return code.context.make_tuple(code.builder, _kind_of(result), parts)
    return code.context.get_dummy_value() if result is None else result.ir


def _argument(kind: Any, name: Any, code: _Code) -> Any:
    if isinstance(kind, types.Array):
        return Array(kind, name, code)
    if isinstance(kind, types.BaseTuple):
        kinds: Any = kind
        parts = zip(kinds.types, _split(code, name, len(kinds.types)), strict=True)
        return tuple(_argument(*part, code) for part in parts)
    return Value(kind, name, code)


def _split(code: _Code, name: Any, count: int) -> list[Any]:
    return cgutils.unpack_tuple(code.builder, name, count) if name else [None] * count


# The smaller and the larger of two numbers, for kernels.
least, most = straight(smaller), straight(larger)


_LOG2_E, _BIAS = 1.44269504, 127
# ln 2 in two parts, the first exact in few bits, so that x - k ln 2 keeps its last bits (Cody and Waite).
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Minimax polynomial of (exp(r) - 1 - r) / r^2 on [-ln2 / 2, ln2 / 2] (Cephes, expf), highest power first.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# The series of 2 artanh(s) / s in s^2, which for s <= 1/3 ends below the last bit of float32 here.
_ARTANH = (2 / 15, 2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3)


def exp(x: Any) -> Any:
    """Return exp(x); vectorisable in float32 within 2 units in the last place, exact in float64.

    In float32 the argument is clamped to the range in which results are normal numbers.
    """
    if x.kind == types.float64:
        return call("llvm.exp", x)
    near = clamp(x, -87.0, 88.0)
    # The exponent, biased: positive, so that cutting off a half more rounds it.
    power = convert(near * _LOG2_E + (_BIAS + 0.5), types.int32)
    k = convert(power - _BIAS, types.float32)
    r = (near - k * _LN2_HIGH) - k * _LN2_LOW
    return (_polynomial(_EXP, r) * r * r + r + 1.0) * reinterpret(power << 23, types.float32)


def log1p(x: Any) -> Any:
    """Return log(1 + x) for x in [0, 1]; vectorisable in float32 to the last bits, exact in float64."""
    if x.kind == types.float64:
        return call("log1p", x)
    s = x / (x + 2.0)  # log(1 + x) = 2 artanh(x / (2 + x))
    z = s * s
    return s * (_polynomial(_ARTANH, z) * z + 2.0)


def _polynomial(factors: tuple[float, ...], x: Any) -> Any:
    first, *others = factors
    value = x * first + others[0]
    for factor in others[1:]:
        value = value * x + factor
    return value
