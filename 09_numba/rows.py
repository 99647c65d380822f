"""A row of sixteen numbers, as a type that Numba compiles to vector instructions.

Numba translates Python into LLVM's intermediate language, and LLVM translates that into
machine code. LLVM can turn a loop over numbers into vector instructions, but often it
finds no way to. Here a vector is a value of its own: `a * b + c` of three rows is one
multiply-add of sixteen numbers (in single precision one instruction with AVX-512, two
with AVX, four on an Apple chip), and a row in a local variable stays in a register. The
sixteen places of a row are called lanes.

    Matrix   numbers in memory, cut into rows: x[t, c] is row c of line t, x[t, c, i] is
             lane i of that row, and x.width is the number of rows in a line
    Row      sixteen numbers: + - * / with a row or a number, and the functions below
    Tile     sixteen rows, one below the other: a square piece of a matrix of weights

The last two sections are about threads, which wait for each other at a barrier, and
about the folder where compiled code is kept.

To teach Numba a type takes a class, which stands for the type in the compiler; a data
model, which says how LLVM stores a value of it; and two functions for each operation.
The typer says what type the result has, or returns None if the operation is not for
these types. The other one, often called emit here, writes the LLVM instructions. A
function marked @intrinsic gives both: the type of the result, and emit."""

import hashlib
import math
import operator
import os
import tempfile
from itertools import product
from pathlib import Path
from types import CodeType

import microgpt

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
    """Sixteen rows. LLVM keeps them as an array of vectors."""

    def __init__(self, row):
        super().__init__(f"Tile({row.dtype})")
        self.row = row
        self.array = ir.ArrayType(row.vector, LANES)


class Matrix(types.Type):
    """An address in memory, and the number of rows in a line."""

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
        members = [("data", types.CPointer(kind.row.dtype)), ("width", types.intp)]
        super().__init__(manager, kind, members)


make_attribute_wrapper(Matrix, "width", "width")  # compiled code may read x.width

# ---------------------------------------------------------------- Instructions

# With this flag the compiler may round a * b + c once instead of twice. It may not
# change the order of operations, nor assume that NaN and infinity never occur.
FUSE = ("contract",)


def fma(builder, a, b, c):
    """a * b + c, a fused multiply-add where the processor has one."""
    return builder.fadd(builder.fmul(a, b, flags=FUSE), c, flags=FUSE)


def integer(value, bits=64):
    return ir.Constant(ir.IntType(bits), value)


def constant(row, number):
    """A vector with the same number in every lane, known at compile time."""
    return ir.Constant(row.vector, [float(number)] * LANES)


def shuffle(builder, a, lanes, b=None):
    """A new vector of these lanes: 0 to 15 are lanes of a, 16 to 31 are lanes of b."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)
    return builder.shuffle_vector(a, b or a, mask)


def broadcast(builder, row, number):
    """A vector with the same number in every lane, known at run time."""
    empty = ir.Constant(row.vector, ir.Undefined)
    first = builder.insert_element(empty, number, integer(0, bits=32))
    return shuffle(builder, first, [0] * LANES)


def call(builder, row, name, result, *args, **flags):
    """Call one of LLVM's own functions of vectors, such as llvm.sqrt.v16f32."""
    kind = ir.FunctionType(result, [a.type for a in args])
    name = f"llvm.{name}.v{LANES}f{row.dtype.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, args, **flags)


def load(builder, row, address):
    address = builder.bitcast(address, row.vector.as_pointer())
    return builder.load(address, align=row.dtype.bitwidth // 8)


def store(builder, row, address, value):
    address = builder.bitcast(address, row.vector.as_pointer())
    builder.store(value, address, align=row.dtype.bitwidth // 8)


def rows_of(builder, tile):
    """The 16 vectors of a tile."""
    return [builder.extract_value(tile, r) for r in range(LANES)]


def tile_of(builder, kind, rows):
    """The tile of 16 vectors."""
    tile = ir.Constant(kind.array, ir.Undefined)
    for r, row in enumerate(rows):
        tile = builder.insert_value(tile, row, r)
    return tile


# ---------------------------------------------------------------- Matrices


def pointer(context, builder, kind, array):
    """The address of a NumPy array's numbers."""
    return context.make_array(kind)(context, builder, array).data


def make_matrix(context, builder, kind, data, start, width):
    """A matrix whose first row is row `start` of the data."""
    x = cgutils.create_struct_proxy(kind)(context, builder)
    x.data = builder.gep(data, [builder.mul(start, integer(LANES))])
    x.width = width
    return x._getvalue()


@intrinsic
def column(typing, flat):
    """A matrix of all rows of a flat array, with one row in each line."""
    kind = Matrix(Row(flat.dtype))

    def emit(context, builder, sig, args):
        data = pointer(context, builder, flat, *args)
        return make_matrix(context, builder, kind, data, integer(0), integer(1))

    return kind(flat), emit


def group(before, table):
    """A function for compiled code, which returns the matrices of a table as a tuple.
    In the flat array they follow the matrices of the tables `before`, and i sets of
    their own table. Matrix j has (start, width of a line) = layout[j], both in rows."""
    first, count = sum(map(len, before)), len(table)

    @intrinsic
    def find(typing, flat, layout, i):
        kind = types.UniTuple(Matrix(Row(flat.dtype)), count)

        def emit(context, builder, sig, args):
            data = pointer(context, builder, flat, args[0])
            numbers = pointer(context, builder, layout, args[1])
            start = builder.add(builder.mul(args[2], integer(count)), integer(first))

            def number(j, k):  # layout[start + j, k]
                at = builder.add(builder.mul(start, integer(2)), integer(2 * j + k))
                return builder.load(builder.gep(numbers, [at]))

            found = [
                make_matrix(
                    context, builder, kind.dtype, data, number(j, 0), number(j, 1)
                )
                for j in range(count)
            ]
            return context.make_tuple(builder, kind, found)

        return kind(flat, layout, types.intp), emit

    return find


def address_of(context, builder, sig, args):
    """The address of the row x[t, c], or of the number x[t, c, i]."""
    x = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
    t, c, *i = (
        context.cast(builder, builder.extract_value(args[1], n), kind, types.intp)
        for n, kind in enumerate(sig.args[1])
    )
    offset = builder.mul(builder.add(builder.mul(t, x.width), c), integer(LANES))
    return builder.gep(x.data, [builder.add(offset, *i) if i else offset])


@type_callable(operator.getitem)
def getitem_type(context):
    def typer(x, index):
        if isinstance(x, Matrix):
            return x.row if len(index) == 2 else x.row.dtype

    return typer


@lower_builtin(operator.getitem, Matrix, types.BaseTuple)
def getitem(context, builder, sig, args):
    address = address_of(context, builder, sig, args)
    if isinstance(sig.return_type, Row):
        return load(builder, sig.return_type, address)
    return builder.load(address)


@type_callable(operator.setitem)
def setitem_type(context):
    def typer(x, index, value):
        if isinstance(x, Matrix):
            return types.none

    return typer


@lower_builtin(operator.setitem, Matrix, types.BaseTuple, types.Any)
def setitem(context, builder, sig, args):
    address = address_of(context, builder, sig, args)
    row, kind = sig.args[0].row, sig.args[2]
    if isinstance(kind, Row):
        store(builder, row, address, args[2])
    else:
        builder.store(context.cast(builder, args[2], kind, row.dtype), address)
    return context.get_dummy_value()


# ---------------------------------------------------------------- Arithmetic


def arithmetic(symbols, instruction):
    """Teach the compiler an operator for two rows, and for a row and a number. Of
    several symbols, such as + and +=, all become the same instruction."""

    def typer(a, b):
        rows = [kind for kind in (a, b) if isinstance(kind, Row)]
        if rows and all(isinstance(kind, (Row, types.Number)) for kind in (a, b)):
            return rows[0]

    def emit(context, builder, sig, args):
        row = sig.return_type

        def as_row(kind, value):  # a number becomes a row of equal lanes
            if isinstance(kind, Row):
                return value
            value = context.cast(builder, value, kind, row.dtype)
            return broadcast(builder, row, value)

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
    """A row with a number in every lane, in the precision of the matrix `like`."""
    row = like.row

    def emit(context, builder, sig, args):
        value = context.cast(builder, args[1], number, row.dtype)
        return broadcast(builder, row, value)

    return row(like, number), emit


@intrinsic
def maximum(typing, a, b):
    """The larger of a and b in each lane."""

    def emit(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), emit


@intrinsic
def is_positive(typing, a):
    """1 in each lane that is above 0, else 0."""
    zero, one = constant(a, 0), constant(a, 1)

    def emit(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], zero), one, zero)

    return a(a), emit


@intrinsic
def sqrt(typing, a):
    """The square root of each lane."""

    def emit(context, builder, sig, args):
        return call(builder, a, "sqrt", a.vector, *args)

    return a(a), emit


@intrinsic
def exp(typing, a):
    """e to the power of each lane, to one unit in the last place.

    Let n be the integer next to x / ln 2, and r = x - n ln 2. Then e^x = 2^n e^r, and r
    is so small that a few terms of the Taylor series are enough. ln 2 is written as the
    sum of two constants: the first has few digits, so that n times it is exact."""
    bits = a.dtype.bitwidth
    mantissa, terms, high, low, least = {
        32: (23, 7, 0.693145751953125, 1.4286068203094173e-06, -87),
        64: (52, 13, 0.6931471803691238, 1.9082149292705877e-10, -708),
    }[bits]
    integers = ir.VectorType(ir.IntType(bits), LANES)

    def emit(context, builder, sig, args):
        (x,) = args
        # adding 1.5 · 2^mantissa rounds x / ln 2: the lowest bits of the sum are n
        large = constant(a, 1.5 * 2**mantissa)
        shifted = fma(builder, x, constant(a, 1 / math.log(2)), large)
        n = builder.fsub(shifted, large)
        r = fma(builder, n, constant(a, -high), x)
        r = fma(builder, n, constant(a, -low), r)
        p = constant(a, 1 / math.factorial(terms))
        for k in reversed(range(terms)):
            p = fma(builder, p, r, constant(a, 1 / math.factorial(k)))
        # times 2^n: add n to the exponent, whose bits are above those of the mantissa
        n = builder.bitcast(shifted, integers)
        n = builder.shl(n, ir.Constant(integers, [mantissa] * LANES))
        p = builder.bitcast(builder.add(builder.bitcast(p, integers), n), a.vector)
        # below `least` e^x is less than the smallest normal number: give 0
        under = builder.fcmp_ordered("<", x, constant(a, least))  # false for NaN
        return builder.select(under, constant(a, 0), p)

    return a(a), emit


# ---------------------------------------------------------------- Across lanes


@intrinsic
def sum_lanes(typing, a):
    """The sum of the lanes. Row -> number"""

    def emit(context, builder, sig, args):
        zero = ir.Constant(a.element, -0.0)
        # reassoc allows any order of the additions, so lanes can be added in pairs
        name, order = "vector.reduce.fadd", ("reassoc",)
        return call(builder, a, name, a.element, zero, *args, fastmath=order)

    return a.dtype(a), emit


@intrinsic
def max_lanes(typing, a):
    """The largest of the lanes. Row -> number"""

    def emit(context, builder, sig, args):
        return call(builder, a, "vector.reduce.fmax", a.element, *args)

    return a.dtype(a), emit


@intrinsic(prefer_literal=True)
def swap_lanes(typing, a, distance):
    """Exchange lane i with lane i ^ distance; distance is a power of two."""
    lanes = [i ^ distance.literal_value for i in range(LANES)]

    def emit(context, builder, sig, args):
        return shuffle(builder, args[0], lanes)

    return a(a, distance), emit


@numba.njit(forceinline=True)
def sum_head(a, lanes):
    """The sum of each group of neighbouring lanes, in every lane of the group. A group
    has `lanes` lanes: 1, 2, 4 or 8, or all sixteen if `lanes` is 16 or more."""
    # after the exchange with distance d, each lane holds the sum of 2 d lanes
    if lanes > 1:
        a += swap_lanes(a, 1)
    if lanes > 2:
        a += swap_lanes(a, 2)
    if lanes > 4:
        a += swap_lanes(a, 4)
    if lanes > 8:
        a += swap_lanes(a, 8)
    return a


# ---------------------------------------------------------------- Tiles


def row_addresses(context, builder, kind, x, o, i):
    """The addresses of a tile's rows, which are one below the other in a matrix."""
    x = cgutils.create_struct_proxy(kind)(context, builder, value=x)
    stride = builder.mul(x.width, integer(LANES))
    first = builder.mul(builder.add(builder.mul(o, stride), i), integer(LANES))
    for r in range(LANES):
        offset = builder.add(first, builder.mul(stride, integer(r)))
        yield builder.gep(x.data, [offset])


@intrinsic
def tile(typing, x, o, i):
    """The rows x[16 o, i] to x[16 o + 15, i]."""
    kind = Tile(x.row)

    def emit(context, builder, sig, args):
        addresses = row_addresses(context, builder, x, *args)
        return tile_of(builder, kind, [load(builder, x.row, at) for at in addresses])

    return kind(x, types.intp, types.intp), emit


@intrinsic
def put_tile(typing, x, o, i, value):
    """Store a tile where tile(x, o, i) loads it."""

    def emit(context, builder, sig, args):
        addresses = row_addresses(context, builder, x, *args[:3])
        for address, row in zip(addresses, rows_of(builder, args[3])):
            store(builder, x.row, address, row)
        return context.get_dummy_value()

    return types.none(x, types.intp, types.intp, value), emit


@intrinsic
def transpose(typing, a):
    """Exchange rows and columns, in four passes. Row and lane of a number are four bits
    each, and a pass exchanges one bit of the row with the same bit of the lane."""

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


def broadcast_lanes(builder, a):
    """Sixteen vectors: vector i has lane i of `a` in all its lanes."""
    return [shuffle(builder, a, [i] * LANES) for i in range(LANES)]


@type_callable(operator.matmul)
def matmul_type(context):
    def typer(a, w):
        if isinstance(a, Row) and isinstance(w, Tile):
            return a

    return typer


@lower_builtin(operator.matmul, Row, Tile)
def matmul(context, builder, sig, args):
    """row @ tile: the sum over i of lane i of the row times row i of the tile."""
    a, w = args
    first, *others = zip(broadcast_lanes(builder, a), rows_of(builder, w))
    result = builder.fmul(*first, flags=FUSE)
    for number, row in others:
        result = fma(builder, number, row, result)
    return result


@intrinsic
def outer(typing, a, b):
    """The outer product: row r of the tile is lane r of a, times b."""
    kind = Tile(a)

    def emit(context, builder, sig, args):
        numbers = broadcast_lanes(builder, args[0])
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
def count_arrival(typing, arrivals):
    """Add one to the count, in one atomic instruction. -> the count before"""

    def emit(context, builder, sig, args):
        address = pointer(context, builder, arrivals, *args)
        return builder.atomic_rmw("add", address, integer(1), "acq_rel")

    return types.int64(arrivals), emit


@intrinsic
def read_arrivals(typing, arrivals):
    """The count. "acquire" makes visible all that the counted threads wrote before."""

    def emit(context, builder, sig, args):
        address = pointer(context, builder, arrivals, *args)
        return builder.load_atomic(address, "acquire", align=8)

    return types.int64(arrivals), emit


@intrinsic
def yield_core(typing):
    """Let the system run another thread on this core, if one is waiting for it."""

    def emit(context, builder, sig, args):
        if os.name == "posix":
            kind, name = ir.FunctionType(ir.IntType(32), []), "sched_yield"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [])
        return context.get_dummy_value()

    return types.none(), emit


@numba.njit(error_model="numpy")
def barrier(arrivals, threads):
    """Return when all threads have called this. A waiting thread reads the count again
    and again (a spin lock): to sleep and be woken takes longer than a small step."""
    if threads > 1:
        # the count is never reset: each barrier adds `threads` to it, so the next
        # multiple of `threads` is the count at which all have arrived
        due = (count_arrival(arrivals) // threads + 1) * threads
        tries = 0
        while read_arrivals(arrivals) < due:
            tries += 1
            if tries > 1000:  # the missing thread may be waiting for this very core
                yield_core()


# ---------------------------------------------------------------- Compiled code on disk


def set_cache_folder(frame):
    """Keep the compiled code of a module in `.cache` beside it. The folder's name is a
    digest of the code that is running; Numba itself looks only at the file's date."""
    name, path = frame.f_globals["__name__"], Path(frame.f_globals["__file__"])
    kept = name + fingerprint(frame.f_code) + Path(__file__).read_text(encoding="utf-8")
    folder = os.environ.get("NUMBA_CACHE_DIR", path.resolve().with_name(".cache"))
    digest = hashlib.sha256(kept.encode()).hexdigest()[:16]
    try:
        os.makedirs(os.path.join(folder, digest), exist_ok=True)
        tempfile.TemporaryFile(dir=os.path.join(folder, digest)).close()
    except OSError:  # it cannot be written
        folder = microgpt.private_folder("numba")
    numba.config.CACHE_DIR = os.path.join(folder, digest)


def fingerprint(code):
    """A text that is equal for equal code, whatever the path of the file: the bytecode,
    names and constants of a code object and of the code objects in it."""
    inner = [fingerprint(x) if isinstance(x, CodeType) else x for x in code.co_consts]
    return repr((code.co_code, code.co_names, code.co_varnames, inner))
