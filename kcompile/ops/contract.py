"""The contraction: one affine einsum that matrix products and convolutions are specs of.

    contract(a, b, spec="b,i*2+r,c;r,c,n->b,i,n", sizes=(("i", 13),))

    y[b, i, n] = sum over r, c of  a[b, i*2 + r, c] * b[r, c, n]

Every operand dimension is a sum of axis letters with positive coefficients, every output dimension
is a letter. `sizes` gives the extents that no operand dimension states alone. Padding is an op of
its own, so every index is in bounds. Both gradients are contractions again: see adjoint.py.
"""

from __future__ import annotations

import functools
import itertools
import math
import string
from collections.abc import Mapping, Sequence

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms import scalar
from kcompile.forms.records import ACC, OUT, Buffer, Contract, Store, indices, operand_buffers
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, bf16, f16, f32
from kcompile.ops.adjoint import cotangent
from kcompile.ops.elementwise import draw
from kcompile.ops.shape import reshape
from kcompile.ops.spec import Affine, Spec, extents, letters_of, parse_spec, plain_letter

# infer, ref ------------------------------------------------------------------------------------


def infer(a: Type, b: Type, *, spec: str, sizes=()) -> Type:
    if a.dtype is not b.dtype:
        raise DTypeError(f"contract expects operands of one dtype, received {a} and {b}")
    if a.dtype.category == "bool":
        raise DTypeError(f"contract takes numbers, received {a} and {b}")
    parsed = parse_spec(spec)
    known = extents(parsed, (a.shape, b.shape), sizes)
    return Type(a.dtype, tuple(known[letter] for letter in parsed.out))


def ref(a, b, *, spec: str, sizes=()):
    """Strided windows of both operands, then one stacked matrix product."""
    a, b = np.asarray(a), np.asarray(b)
    dtype = np.result_type(a, b)
    if dtype == np.float16:
        a, b = a.astype(np.float32), b.astype(np.float32)
    parsed = parse_spec(spec)
    if _is_product(parsed) and a.ndim == len(parsed.lhs) and b.ndim == 2 and a.shape[-1] == b.shape[0] and a.size:
        found = a.reshape(-1, a.shape[-1]) @ b
        return np.ascontiguousarray(found, dtype).reshape(*a.shape[:-1], b.shape[1])
    known = extents(parsed, (a.shape, b.shape), sizes)
    (a, a_letters), (b, b_letters) = (_windows(x, side, known) for x, side in zip((a, b), parsed.sides))
    a, a_letters = _summed_alone(a, a_letters, b_letters, parsed.out)
    b, b_letters = _summed_alone(b, b_letters, a_letters, parsed.out)
    both = [x for x in a_letters if x in b_letters and x in parsed.out]
    over = [x for x in a_letters if x in b_letters and x not in parsed.out]
    rows = [x for x in a_letters if x not in b_letters]
    columns = [x for x in b_letters if x not in a_letters]

    def matrix(x, letters, *groups):
        ordered = np.transpose(x, [letters.index(letter) for group in groups for letter in group])
        return ordered.reshape([math.prod(known[letter] for letter in group) for group in groups])

    product = matrix(a, a_letters, both, rows, over) @ matrix(b, b_letters, both, over, columns)
    order = [*both, *rows, *columns]
    product = product.reshape([known[letter] for letter in order])
    result = np.transpose(product, [order.index(letter) for letter in parsed.out])
    return np.ascontiguousarray(result, dtype).reshape(result.shape)


@functools.lru_cache(maxsize=1024)
def _is_product(spec: Spec) -> bool:
    """True for rows times a matrix, `[..., k] x [k, n]`: what a dense layer computes."""
    left, right = ([plain_letter(d) for d in side] for side in spec.sides)
    letters = [*left, *right[1:]]
    is_plain = None not in letters and len(set(letters)) == len(letters) and len(left) > 1
    return is_plain and len(right) == 2 and right[0] == left[-1] and list(spec.out) == [*left[:-1], right[1]]


def _windows(x: np.ndarray, side: Sequence[Affine], known: Mapping[str, int]) -> tuple[np.ndarray, list[str]]:
    """A view with one axis per letter."""
    letters = list(letters_of(side))
    strides = [
        sum(c * stride for d, stride in zip(side, x.strides) for name, c in d if name == letter) for letter in letters
    ]
    view = np.lib.stride_tricks.as_strided(x, [known[letter] for letter in letters], strides, writeable=False)
    return view, letters


def _summed_alone(x, letters: list[str], others: Sequence[str], out: Sequence[str]):
    """Sum the axes that neither the other operand nor the result has."""
    alone = [n for n, letter in enumerate(letters) if letter not in others and letter not in out]
    if alone:
        x = x.sum(axis=tuple(alone), dtype=x.dtype)
        letters = [letter for n, letter in enumerate(letters) if n not in alone]
    return x, letters


# vjp -------------------------------------------------------------------------------------------


def vjp(g, y, a, b, *, spec: str, sizes=()):
    parsed = parse_spec(spec)
    known = extents(parsed, (a.shape, b.shape), sizes)
    return (
        cotangent(parsed.lhs, tuple(a.shape), parsed.rhs, b, parsed.out, g, known, g_first=True),
        cotangent(parsed.rhs, tuple(b.shape), parsed.lhs, a, parsed.out, g, known, g_first=False),
    )


# lower -----------------------------------------------------------------------------------------


def lower(a: Type, b: Type, *, spec: str, sizes=()) -> Contract:
    """out[out letters] = sum over the other letters of lhs * rhs; float16 and bfloat16 are summed in float32."""
    parsed = parse_spec(spec)
    known = extents(parsed, (a.shape, b.shape), sizes)
    result = infer(a, b, spec=spec, sizes=sizes)
    out_axes = tuple(Axis(letter, known[letter]) for letter in parsed.out)
    over = tuple(Axis(letter, known[letter]) for letter in parsed.over)
    place = {axis.name: dim.of(axis) for axis in (*out_axes, *over)}
    dtype = f32 if a.dtype in (f16, bf16) else a.dtype

    def element(n: int, side: Sequence[Affine], type_: Type):
        index = tuple(sum((place[letter] * c for letter, c in d), start=0) for d in side)
        return scalar.cast(scalar.load(f"x{n}", index, type_.dtype), dtype)

    total = scalar.cast(scalar.load(ACC, (), dtype), result.dtype)
    return Contract(
        buffers=(*operand_buffers((a, b)), Buffer("y", result, OUT)),
        out_axes=out_axes,
        over=over,
        lhs=element(0, parsed.lhs, a),
        rhs=element(1, parsed.rhs, b),
        stores=(Store("y", indices(out_axes), total),),
        dtype=dtype,
        name="contract",
    )


# samples ---------------------------------------------------------------------------------------

_SAMPLES = (
    ("f32", (3, 4), (4, 5), "m,k;k,n->m,n", ()),
    ("f64", (2, 3, 4), (2, 5, 4), "b,m,k;b,n,k->b,m,n", ()),
    ("f16", (3, 9), (9, 2), "m,k;k,n->m,n", ()),
    ("i32", (3, 4), (4, 2), "m,k;k,n->m,n", ()),
    ("f32", (4,), (4,), "k;k->", ()),
    ("f32", (3,), (4,), "m;n->n,m", ()),
    ("f32", (1, 7), (7, 1), "m,k;k,n->m,n", ()),
    ("f32", (0, 4), (4, 3), "m,k;k,n->m,n", ()),
    ("f32", (3, 0), (0, 2), "m,k;k,n->m,n", ()),
    ("f64", (2, 3), (3, 4), "a,k;k,n->n", ()),  # a is summed in one operand alone
    ("f32", (2, 7, 3), (3, 3, 4), "b,i+r,c;r,c,n->b,i,n", (("i", 5),)),
    ("f64", (2, 9, 8, 2), (3, 3, 2, 3), "b,i*2+r,j*2+s,c;r,s,c,n->b,i,j,n", (("i", 4), ("j", 3))),
    ("f64", (1, 9, 2), (2, 2, 3), "b,i*3+r,c;r,c,n->b,i,n", (("i", 3),)),
    ("f64", (1, 8, 2), (1, 2, 3), "b,i*2+r,c;r,c,n->b,i,n", (("i", 4),)),
    ("f64", (1, 11, 2), (4, 2, 2), "b,i*2+r,c;r,c,n->b,i,n", (("i", 4),)),
    ("f32", (2, 9, 3), (3, 3, 2), "b,i+r*2,c;r,c,n->b,i,n", (("i", 5),)),
    ("f64", (1, 12, 2), (3, 2, 2), "b,i*2+r*3,c;r,c,n->b,i,n", (("i", 3),)),
    ("f32", (2, 6, 5), (3, 5), "b,i+r,c;r,c->b,i,c", (("i", 4),)),
    ("f64", (1, 7, 2, 3), (3, 3, 2, 2), "b,i*2+r,g,c;r,c,g,n->b,i,g,n", (("i", 3),)),
    ("f64", (1, 5, 4, 6, 2), (2, 2, 3, 2, 1), "b,i+p,j+q,k+r,c;p,q,r,c,n->b,i,j,k,n", (("i", 4), ("j", 3), ("k", 4))),
    ("f64", (2, 7, 3), (2, 5, 4), "b,i+r,c;b,i,n->r,c,n", (("r", 3),)),  # a filter gradient
    ("f64", (2, 8, 3), (2, 3, 4), "b,i*2+r,c;b,i,n->r,c,n", (("r", 3),)),
)


def samples(rng):
    for kind, a, b, spec, sizes in _SAMPLES:
        yield (draw(rng, kind, a), draw(rng, kind, b)), {"spec": spec, "sizes": sizes}


contract = register(Op("contract", Kind.CONTRACT, infer, ref, vjp, lower, samples))


# plain functions -------------------------------------------------------------------------------


def matmul(a, b):
    """Matrix product with NumPy's rules: leading dimensions broadcast, vectors are rows or columns.

    Shapes:  [..., m, k] x [..., k, n] -> [..., m, n]; a [k] on either side drops its m or n.
    """
    a_shape, b_shape = tuple(a.shape), tuple(b.shape)
    if not a_shape or not b_shape:
        raise ShapeError(f"matmul expects operands of rank 1 or more, received shapes {a_shape} and {b_shape}")
    batch = max(len(a_shape), len(b_shape), 2) - 2
    names = list(itertools.islice((c for c in string.ascii_lowercase if c not in "kmn"), batch))
    a, a_dims = _without_ones(a, names, b_shape[:-2], ["m", "k"] if len(a_shape) > 1 else ["k"])
    b, b_dims = _without_ones(b, names, a_shape[:-2], ["k", "n"] if len(b_shape) > 1 else ["k"])
    kept = {*a_dims, *b_dims}
    out = [n for n in names if n in kept] + ["m"] * (len(a_shape) > 1) + ["n"] * (len(b_shape) > 1)
    return contract(a, b, spec=f"{','.join(a_dims)};{','.join(b_dims)}->{','.join(out)}", sizes=())


def _without_ones(x, names: Sequence[str], others: Sequence[DimLike], last: Sequence[str]):
    """Drop leading dimensions of size 1 that broadcast against a larger one; returns (x, its letters)."""
    lead = tuple(x.shape)[: len(x.shape) - len(last)]
    letters = list(names[len(names) - len(lead) :])
    kept = []
    for position, size in enumerate(lead):
        other = len(others) - len(lead) + position
        kept.append(not (size == 1 and other >= 0 and others[other] != 1))
    if not all(kept):
        shape = (*(size for size, keep in zip(lead, kept) if keep), *tuple(x.shape)[len(lead) :])
        x = reshape(x, shape=shape)
        letters = [letter for letter, keep in zip(letters, kept) if keep]
    return x, [*letters, *last]


def einsum(subscripts: str, a, b):
    """Einstein summation of two operands, in NumPy's notation ("bij,bjk->bik", "...ij,jk").

    Raises: ShapeError for a spec of another number of operands or of the wrong rank.
    """
    lhs, rhs, out = _einsum_parts(subscripts.replace(" ", ""), len(a.shape), len(b.shape))
    a, lhs, b, rhs = _einsum_broadcast(a, lhs, b, rhs)
    missing = [letter for letter in out if letter not in (*lhs, *rhs)]
    if missing:
        raise ShapeError(f"einsum: {missing} of {subscripts!r} are in no operand")
    return contract(a, b, spec=f"{','.join(lhs)};{','.join(rhs)}->{','.join(out)}", sizes=())


def _einsum_parts(text: str, *ranks: int) -> tuple[list[str], list[str], list[str]]:
    inputs, arrow, result = text.partition("->")
    operands = inputs.split(",")
    if len(operands) != 2:
        raise ShapeError(f"einsum of two operands, received {text!r}")
    free = iter(c for c in string.ascii_letters if c not in text)
    dots = [rank - len(part.replace("...", "")) for part, rank in zip(operands, ranks)]
    if any(n < 0 or (n > 0 and "..." not in part) for n, part in zip(dots, operands)):
        raise ShapeError(f"einsum: {text!r} does not fit operands of ranks {ranks}")
    shared = list(itertools.islice(free, max(dots)))
    spelled = [_spelled(part, shared[len(shared) - n :]) for part, n in zip(operands, dots)]
    if arrow:
        return spelled[0], spelled[1], _spelled(result, shared)
    every = [*spelled[0], *spelled[1]]
    once = sorted(c for c in set(every) if every.count(c) == 1 and c not in shared)
    return spelled[0], spelled[1], [*shared, *once]


def _spelled(part: str, dots: Sequence[str]) -> list[str]:
    before, found, after = part.partition("...")
    return [*before, *(dots if found else ()), *after]


def _einsum_broadcast(a, lhs, b, rhs):
    """Drop dimensions of size 1 whose letter is larger in the other operand, as NumPy repeats them."""
    sizes: dict[str, DimLike] = {}
    for letters, x in ((lhs, a), (rhs, b)):
        for letter, size in zip(letters, x.shape):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = size
    fitted = []
    for letters, x in ((lhs, a), (rhs, b)):
        keep = [not (size == 1 and sizes[letter] != 1) for letter, size in zip(letters, x.shape)]
        if not all(keep):
            x = reshape(x, shape=tuple(size for size, k in zip(x.shape, keep) if k))
        fitted += [x, [letter for letter, k in zip(letters, keep) if k]]
    return fitted
