"""Vector registers in compiled loops: the parts of LLVM code that products and camera share."""

import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

__all__ = [
    "LANES",
    "STRIP",
    "VECTORS",
    "WIDE",
    "add_to_sums",
    "append_below",
    "constant",
    "load",
    "multiply_add",
    "offset",
    "place",
    "prefetch",
    "repeat",
    "store",
    "vector",
]

VECTORS = 2
"""Vectors of outputs that a loop holds for each frame."""


def registers() -> tuple[int, bool]:
    """Lanes of a vector, and whether there are 32 vector registers instead of 16.

    ``NUMBA_CPU_FEATURES`` sets the instructions that numba may use.
    """
    given = config.CPU_FEATURES  # pyright: ignore[reportAttributeAccessIssue]
    features = llvm.get_host_cpu_features() if given is None else dict.fromkeys(re.findall(r"\+([\w.-]+)", given), True)
    if features.get("avx512f"):
        return 16, True
    return (8 if features.get("avx2") else 4), False


LANES, WIDE = registers()
STRIP = VECTORS * LANES
"""Parts of a panel that a loop takes at a time."""
vector = ir.VectorType(ir.FloatType(), LANES)


def constant(value: int) -> Any:
    """Return a whole number in LLVM's terms."""
    return ir.Constant(ir.IntType(64), value)


def place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Pointer to element `index` of a flat array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def offset(builder: Any, pointer: Any, count: int) -> Any:
    """Pointer `count` elements further on."""
    return builder.gep(pointer, [constant(count)])


def load(builder: Any, pointer: Any) -> Any:
    """Vector of the floats at a pointer, which need not be aligned."""
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)


def store(builder: Any, pointer: Any, values: Any) -> None:
    """Write a vector at a pointer."""
    builder.store(values, builder.bitcast(pointer, vector.as_pointer()), align=4)


def add_to_sums(builder: Any, pointer: Any, held: list[Any], stride: int) -> None:
    """Add the vectors of several frames to sums that are `stride` floats apart from frame to frame."""
    for i, values in enumerate(held):
        target = offset(builder, pointer, i // VECTORS * stride + i % VECTORS * LANES)
        store(builder, target, builder.fadd(load(builder, target), values))


def multiply_add(builder: Any, weight: Any, values: Any, total: Any) -> Any:
    """``fma(weight, values, total)``: a float times a vector, plus a vector."""
    nothing = ir.Constant(vector, ir.Undefined)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    one = builder.insert_element(nothing, weight, ir.Constant(ir.IntType(32), 0))
    kind = ir.FunctionType(vector, [vector] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(fma, [builder.shuffle_vector(one, nothing, everywhere), values, total])


def prefetch(builder: Any, pointer: Any) -> None:
    """Ask for a cache line in the second-level cache; any address is allowed."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    read, second_level, data = (ir.Constant(number, i) for i in (0, 2, 1))
    builder.call(ask, [builder.bitcast(pointer, byte), read, second_level, data])


def repeat(
    builder: Any, count: Any, together: int, values: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """``values = body(i, values)`` for ``i < count``, in registers; `count` is a multiple of `together`, and not 0."""
    before = builder.block
    head, done = builder.append_basic_block("head"), builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    i, held = builder.phi(count.type), [builder.phi(value.type) for value in values]
    for phi, value in zip([i, *held], [constant(0), *values], strict=True):
        phi.add_incoming(value, before)
    values = held
    for step in range(together):
        values = body(builder.add(i, constant(step)), values)
    following = builder.add(i, constant(together))
    for phi, value in zip([i, *held], [following, *values], strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), head, done)
    builder.position_at_end(done)
    return values


@intrinsic
def append_below(typingctx, values, first, bound, places, count):
    """Write the places of the next `LANES` values that are under `bound` to ``places[count:]``; return the new count.

    For AVX-512 alone. `values` are float32 and `places` int32, both flat; `LANES` places are written, of which the
    first ones count.
    """
    signature = types.intp(values, types.intp, types.float32, places, types.intp)
    number, bit = ir.IntType(32), ir.IntType(1)
    numbers, bits = ir.VectorType(number, LANES), ir.VectorType(bit, LANES)

    def everywhere(builder, value, kind):
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(number, 0))
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(numbers, [0] * LANES))

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        values, first, bound, places, count = arguments
        near = load(builder, place(context, builder, kinds[0], values, first))
        under = builder.fcmp_ordered("<", near, everywhere(builder, bound, vector))
        lanes = ir.Constant(numbers, list(range(LANES)))
        every = builder.add(everywhere(builder, builder.trunc(first, number), numbers), lanes)
        kind = ir.FunctionType(numbers, [numbers, numbers, bits])
        compress = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.mask.compress.v{LANES}i32")
        packed = builder.call(compress, [every, ir.Constant(numbers, [0] * LANES), under])
        target = place(context, builder, kinds[3], places, count)
        builder.store(packed, builder.bitcast(target, numbers.as_pointer()), align=4)
        found = builder.ctpop(builder.bitcast(under, ir.IntType(LANES)))
        return builder.add(count, builder.zext(found, count.type))

    return signature, codegen
