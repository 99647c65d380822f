"""A row of sixteen numbers, as a type that Numba compiles to vector instructions.

Numba turns Python into LLVM's intermediate language, and LLVM turns that into machine
code. Vectors come in only where an optimizer finds them in a loop; often it does not.
Here a vector is a value: `a * b + c` of three rows is one multiply-add of sixteen lanes
(in single precision one instruction with AVX-512, two with AVX, four on an Apple chip),
and a row that is a local variable stays in a register.

    Matrix   numbers in memory, cut into rows: x[t, c] is row c of line t, x[t, c, i] is
             lane i of it, and x.wide says how many rows make a line
    Row      sixteen numbers: + - * / with a row or a number, and the functions below
    Tile     sixteen rows, one below the other: a square piece of a matrix of weights

At the end: how threads wait for each other, and where what was compiled is kept.

To teach Numba a type takes a class, which is what the compiler knows of a value; a data
model, which is what LLVM holds for it; and for each operation a typer, which says what
comes out of it, and a function that emits its instructions. A typer that returns None
says: not mine. An @intrinsic is both in one."""

import hashlib
import math
import operator
import os
from itertools import product
from pathlib import Path
from types import CodeType

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import (
    intrinsic,
    lower_builtin,
    make_attribute_wrapper,
    models,
    register_model,
    type_callable,
)

LANES = 16

# ---------------------------------------------------------------- Types


class Row(types.Type):
    """Sixteen numbers, all of float32 or all of float64."""

    def __init__(self, dtype):
        super().__init__(f"Row({dtype})")
        self.dtype = dtype
        self.element = {32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bitwidth]
        self.vector = ir.VectorType(self.element, LANES)


class Tile(types.Type):
    def __init__(self, row):
        super().__init__(f"Tile({row.dtype})")
        self.row = row
        self.array = ir.ArrayType(row.vector, LANES)


class Matrix(types.Type):
    def __init__(self, row):
        super().__init__(f"Matrix({row.dtype})")
        self.row = row


@register_model(Row)
class RowModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.vector)


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.array)


@register_model(Matrix)
class MatrixModel(models.StructModel):
    def __init__(self, manager, kind):
        members = [("data", types.CPointer(kind.row.dtype)), ("wide", types.intp)]
        super().__init__(manager, kind, members)


make_attribute_wrapper(Matrix, "wide", "wide")

# ---------------------------------------------------------------- Instructions

# The one liberty that arithmetic has: a * b + c may be rounded once instead of twice.
# Nothing is reordered, and NaN and infinity stay what they are.
FUSE = ("contract",)


def fma(builder, a, b, c):
    return builder.fadd(builder.fmul(a, b, flags=FUSE), c, flags=FUSE)


def integer(value, bits=64):
    return ir.Constant(ir.IntType(bits), value)


def everywhere(row, number):
    """A constant in every lane."""
    return ir.Constant(row.vector, [float(number)] * LANES)


def shuffle(builder, a, lanes, b=None):
    """A new vector of the lanes named, 0 to 15 those of a and 16 to 31 those of b."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)
    return builder.shuffle_vector(a, b or a, mask)


def spread(builder, row, number):
    """A number in every lane."""
    empty = ir.Constant(row.vector, ir.Undefined)
    first = builder.insert_element(empty, number, integer(0, bits=32))
    return shuffle(builder, first, [0] * LANES)


def call(builder, row, name, result, *args, **flags):
    """One of LLVM's own functions of vectors."""
    kind = ir.FunctionType(result, [a.type for a in args])
    name = f"llvm.{name}.v{LANES}f{row.dtype.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, args, **flags)


def load(builder, row, place):
    place = builder.bitcast(place, row.vector.as_pointer())
    return builder.load(place, align=row.dtype.bitwidth // 8)


def store(builder, row, place, value):
    place = builder.bitcast(place, row.vector.as_pointer())
    builder.store(value, place, align=row.dtype.bitwidth // 8)


def rows_of(builder, tile):
    return [builder.extract_value(tile, r) for r in range(LANES)]


def tile_of(builder, kind, rows):
    tile = ir.Constant(kind.array, ir.Undefined)
    for r, row in enumerate(rows):
        tile = builder.insert_value(tile, row, r)
    return tile


# ---------------------------------------------------------------- Matrices


def pointer(context, builder, kind, array):
    return context.make_array(kind)(context, builder, array).data


def make_matrix(context, builder, kind, data, start, wide):
    x = cgutils.create_struct_proxy(kind)(context, builder)
    x.data = builder.gep(data, [builder.mul(start, integer(LANES))])
    x.wide = wide
    return x._getvalue()


@intrinsic
def column(typing, flat):
    """All rows of a flat array, one a line."""
    kind = Matrix(Row(flat.dtype))

    def emit(context, builder, sig, args):
        data = pointer(context, builder, flat, *args)
        return make_matrix(context, builder, kind, data, integer(0), integer(1))

    return kind(flat), emit


@intrinsic(prefer_literal=True)
def matrices(typing, flat, places, first, count):
    """A tuple of the matrices at places[first], places[first + 1], … of a flat array. A
    place is a start and the width of a line, both in rows."""
    kind = types.UniTuple(Matrix(Row(flat.dtype)), count.literal_value)

    def emit(context, builder, sig, args):
        data = pointer(context, builder, flat, args[0])
        numbers = pointer(context, builder, places, args[1])

        def number(i, j):
            at = builder.add(builder.mul(args[2], integer(2)), integer(2 * i + j))
            return builder.load(builder.gep(numbers, [at]))

        found = [
            make_matrix(context, builder, kind.dtype, data, number(i, 0), number(i, 1))
            for i in range(kind.count)
        ]
        return context.make_tuple(builder, kind, found)

    return kind(flat, places, types.intp, count), emit


def place_of(context, builder, sig, args):
    """Where x[t, c] begins, or x[t, c, i] stands."""
    x = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
    t, c, *i = (
        context.cast(builder, builder.extract_value(args[1], n), kind, types.intp)
        for n, kind in enumerate(sig.args[1])
    )
    offset = builder.mul(builder.add(builder.mul(t, x.wide), c), integer(LANES))
    return builder.gep(x.data, [builder.add(offset, *i) if i else offset])


@type_callable(operator.getitem)
def getitem_type(context):
    def typer(x, index):
        if isinstance(x, Matrix):
            return x.row if len(index) == 2 else x.row.dtype

    return typer


@lower_builtin(operator.getitem, Matrix, types.BaseTuple)
def getitem(context, builder, sig, args):
    place = place_of(context, builder, sig, args)
    if isinstance(sig.return_type, Row):
        return load(builder, sig.return_type, place)
    return builder.load(place)


@type_callable(operator.setitem)
def setitem_type(context):
    def typer(x, index, value):
        if isinstance(x, Matrix):
            return types.none

    return typer


@lower_builtin(operator.setitem, Matrix, types.BaseTuple, types.Any)
def setitem(context, builder, sig, args):
    place = place_of(context, builder, sig, args)
    row, kind = sig.args[0].row, sig.args[2]
    if isinstance(kind, Row):
        store(builder, row, place, args[2])
    else:
        builder.store(context.cast(builder, args[2], kind, row.dtype), place)
    return context.get_dummy_value()


# ---------------------------------------------------------------- Arithmetic


def arithmetic(symbols, instruction):
    """Teach Python's operators of rows with rows and with numbers."""

    def typer(a, b):
        rows = [kind for kind in (a, b) if isinstance(kind, Row)]
        if rows and all(isinstance(kind, (Row, types.Number)) for kind in (a, b)):
            return rows[0]

    def emit(context, builder, sig, args):
        row = sig.return_type

        def as_row(kind, value):
            if isinstance(kind, Row):
                return value
            return spread(builder, row, context.cast(builder, value, kind, row.dtype))

        a, b = map(as_row, sig.args, args)
        return getattr(builder, instruction)(a, b, flags=FUSE)

    for symbol in symbols:
        type_callable(symbol)(lambda context: typer)
    for a, b in product((Row, types.Number), repeat=2):
        lower_builtin(symbols[0], a, b)(emit)


arithmetic([operator.add, operator.iadd], "fadd")
arithmetic([operator.sub, operator.isub], "fsub")
arithmetic([operator.mul, operator.imul], "fmul")
arithmetic([operator.truediv], "fdiv")


@intrinsic
def full(typing, like, number):
    """A number in every lane, in the precision of a matrix."""
    row = like.row

    def emit(context, builder, sig, args):
        value = context.cast(builder, args[1], number, row.dtype)
        return spread(builder, row, value)

    return row(like, number), emit


@intrinsic
def maximum(typing, a, b):
    def emit(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), emit


@intrinsic
def positive(typing, a):
    """1 in each lane that is above 0, and 0 in the others."""
    zero, one = everywhere(a, 0), everywhere(a, 1)

    def emit(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], zero), one, zero)

    return a(a), emit


@intrinsic
def sqrt(typing, a):
    def emit(context, builder, sig, args):
        return call(builder, a, "sqrt", a.vector, *args)

    return a(a), emit


@intrinsic
def exp(typing, a):
    """e to the power of each lane, to one unit in the last place.

    With n the integer next to x / ln 2 and r = x - n ln 2, e^x is 2^n e^r, and r is so
    small that a few terms of the series do. ln 2 is the sum of two constants, so that n
    times the first is exact."""
    bits = a.dtype.bitwidth
    mantissa, terms, high, low, least = {
        32: (23, 7, 0.693145751953125, 1.4286068203094173e-06, -87),
        64: (52, 13, 0.6931471803691238, 1.9082149292705877e-10, -708),
    }[bits]
    integers = ir.VectorType(ir.IntType(bits), LANES)

    def emit(context, builder, sig, args):
        (x,) = args
        # plus 1.5 · 2^mantissa it is rounded: the integer stands in the lowest bits
        large = everywhere(a, 1.5 * 2**mantissa)
        shifted = fma(builder, x, everywhere(a, 1 / math.log(2)), large)
        n = builder.fsub(shifted, large)
        r = fma(builder, n, everywhere(a, -high), x)
        r = fma(builder, n, everywhere(a, -low), r)
        p = everywhere(a, 1 / math.factorial(terms))
        for k in reversed(range(terms)):
            p = fma(builder, p, r, everywhere(a, 1 / math.factorial(k)))
        # times 2^n: n is added to the exponent, which stands above the mantissa
        n = builder.bitcast(shifted, integers)
        n = builder.shl(n, ir.Constant(integers, [mantissa] * LANES))
        p = builder.bitcast(builder.add(builder.bitcast(p, integers), n), a.vector)
        under = builder.fcmp_ordered("<", x, everywhere(a, least))  # false for NaN
        return builder.select(under, everywhere(a, 0), p)

    return a(a), emit


# ---------------------------------------------------------------- Across lanes


@intrinsic
def total(typing, a):
    """The sum of the lanes, a number."""

    def emit(context, builder, sig, args):
        zero = ir.Constant(a.element, -0.0)
        # the one sum that may be taken in any order: here no order is the natural one
        name, order = "vector.reduce.fadd", ("reassoc",)
        return call(builder, a, name, a.element, zero, *args, fastmath=order)

    return a.dtype(a), emit


@intrinsic
def greatest(typing, a):
    """The largest of the lanes, a number."""

    def emit(context, builder, sig, args):
        return call(builder, a, "vector.reduce.fmax", a.element, *args)

    return a.dtype(a), emit


@intrinsic(prefer_literal=True)
def swapped(typing, a, distance):
    """Lane i changes places with lane i ^ distance, which is a power of two."""
    lanes = [i ^ distance.literal_value for i in range(LANES)]

    def emit(context, builder, sig, args):
        return shuffle(builder, args[0], lanes)

    return a(a, distance), emit


@numba.njit(forceinline=True)
def head_total(a, lanes):
    """The sum over each group of so many lanes, a power of two, in every lane of it."""
    if lanes > 1:
        a += swapped(a, 1)
    if lanes > 2:
        a += swapped(a, 2)
    if lanes > 4:
        a += swapped(a, 4)
    if lanes > 8:
        a += swapped(a, 8)
    return a


# ---------------------------------------------------------------- Tiles


def places_of(context, builder, kind, x, o, i):
    """Where the rows of a tile stand, one below the other in a matrix."""
    x = cgutils.create_struct_proxy(kind)(context, builder, value=x)
    stride = builder.mul(x.wide, integer(LANES))
    first = builder.mul(builder.add(builder.mul(o, stride), i), integer(LANES))
    for r in range(LANES):
        offset = builder.add(first, builder.mul(stride, integer(r)))
        yield builder.gep(x.data, [offset])


@intrinsic
def tile(typing, x, o, i):
    """The rows x[16 o, i] to x[16 o + 15, i]."""
    kind = Tile(x.row)

    def emit(context, builder, sig, args):
        places = places_of(context, builder, x, *args)
        return tile_of(builder, kind, [load(builder, x.row, at) for at in places])

    return kind(x, types.intp, types.intp), emit


@intrinsic
def put_tile(typing, x, o, i, value):
    def emit(context, builder, sig, args):
        places = places_of(context, builder, x, *args[:3])
        for place, row in zip(places, rows_of(builder, args[3])):
            store(builder, x.row, place, row)
        return context.get_dummy_value()

    return types.none(x, types.intp, types.intp, value), emit


@intrinsic
def transpose(typing, a):
    """Rows become columns. A number's row and its lane are four bits each: the pass
    with distance d lets bit d of the one and bit d of the other change places."""

    def emit(context, builder, sig, args):
        rows = rows_of(builder, args[0])
        for d in 1, 2, 4, 8:
            upper = [LANES + (i ^ d) if i & d else i for i in range(LANES)]
            lower = [LANES + i if i & d else i ^ d for i in range(LANES)]
            rows = [
                shuffle(builder, rows[r & ~d], lower if r & d else upper, rows[r | d])
                for r in range(LANES)
            ]
        return tile_of(builder, a, rows)

    return a(a), emit


def each_lane(builder, a):
    """Rows of which the first has lane 0 of `a` everywhere, the second lane 1, …"""
    return [shuffle(builder, a, [i] * LANES) for i in range(LANES)]


@type_callable(operator.matmul)
def matmul_type(context):
    def typer(a, w):
        if isinstance(a, Row) and isinstance(w, Tile):
            return a

    return typer


@lower_builtin(operator.matmul, Row, Tile)
def matmul(context, builder, sig, args):
    """row @ tile: the tile's rows, each times a lane of the row, added."""
    a, w = args
    first, *others = zip(each_lane(builder, a), rows_of(builder, w))
    result = builder.fmul(*first, flags=FUSE)
    for number, row in others:
        result = fma(builder, number, row, result)
    return result


@intrinsic
def outer(typing, a, b):
    """The tile whose row r is lane r of a, times b."""
    kind = Tile(a)

    def emit(context, builder, sig, args):
        numbers = each_lane(builder, args[0])
        rows = [builder.fmul(number, args[1], flags=FUSE) for number in numbers]
        return tile_of(builder, kind, rows)

    return kind(a, b), emit


@type_callable(operator.iadd)
@type_callable(operator.add)
def add_tiles_type(context):
    def typer(a, b):
        if isinstance(a, Tile) and isinstance(b, Tile):
            return a

    return typer


@lower_builtin(operator.add, Tile, Tile)
def add_tiles(context, builder, sig, args):
    pairs = zip(*(rows_of(builder, a) for a in args))
    rows = [builder.fadd(a, b, flags=FUSE) for a, b in pairs]
    return tile_of(builder, sig.return_type, rows)


# ---------------------------------------------------------------- Threads


@intrinsic
def arrive(typing, gate):
    """Count one more at the gate, and say how many had come before."""

    def emit(context, builder, sig, args):
        place = pointer(context, builder, gate, *args)
        return builder.atomic_rmw("add", place, integer(1), "acq_rel")

    return types.int64(gate), emit


@intrinsic
def arrived(typing, gate):
    """How many have come. What they wrote before they came can be read from now on."""

    def emit(context, builder, sig, args):
        place = pointer(context, builder, gate, *args)
        return builder.load_atomic(place, "acquire", align=8)

    return types.int64(gate), emit


@intrinsic
def give_way(typing):
    """Let the system run another thread on this core, if one waits for it."""

    def emit(context, builder, sig, args):
        if os.name == "posix":
            kind, name = ir.FunctionType(ir.IntType(32), []), "sched_yield"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [])
        return context.get_dummy_value()

    return types.none(), emit


@numba.njit(error_model="numpy")
def meet(gate, threads):
    """Go on when all threads are here. Who waits asks again and again: to sleep and be
    woken would take longer than many a step."""
    if threads > 1:
        # the gate counts on from meeting to meeting, of which each adds all threads
        due = (arrive(gate) // threads + 1) * threads
        asked = 0
        while arrived(gate) < due:
            asked += 1
            if asked > 1000:  # the other is late, and may be waiting for this very core
                give_way()


# ---------------------------------------------------------------- What was compiled


def keep_builds(frame):
    """Keep what a module compiles in `.cache` beside it, in a folder that is named for
    the code which runs now. Numba itself would go by the file as it is on the disk."""
    name, path = frame.f_globals["__name__"], Path(frame.f_globals["__file__"])
    kept = name + fingerprint(frame.f_code) + Path(__file__).read_text(encoding="utf-8")
    folder = os.environ.get("NUMBA_CACHE_DIR", path.resolve().with_name(".cache"))
    digest = hashlib.sha256(kept.encode()).hexdigest()[:16]
    numba.config.CACHE_DIR = os.path.join(folder, digest)


def fingerprint(code):
    """What a code object does, and those within it, wherever its file lies."""
    inner = [fingerprint(x) if isinstance(x, CodeType) else x for x in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, inner))
