"""keras.ops functions that multiply and sum: matmul, dot, tensordot, einsum, outer."""

from __future__ import annotations

import builtins
import string
from collections.abc import Sequence

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir import dim
from kcompile.keras.ops.creation import diagonal
from kcompile.keras.ops.function import axis_of, promote, public, rank
from kcompile.ops.contract import einsum as _einsum
from kcompile.ops.contract import matmul as _matmul


@public
def matmul(x1, x2):
    """Return the matrix product; leading axes broadcast, vectors are rows (left) or columns (right)."""
    a, b = promote(x1, x2)
    if rank(a) == 0 or rank(b) == 0:
        raise ShapeError("matmul needs tensors of rank 1 or more")
    if a.shape[-1] != b.shape[-2 if rank(b) > 1 else 0]:
        raise ShapeError(f"matmul: the last size of x1 {tuple(a.shape)} does not fit x2 {tuple(b.shape)}")
    return _matmul(a, b)


@public
def dot(x1, x2):
    """Return the sum product over the last axis of x1 and the second last (or only) axis of x2."""
    a, b = promote(x1, x2)
    if rank(a) == 0 or rank(b) == 0:
        return prim.mul(a, b)
    if rank(b) <= 2:
        return _tensordot(a, b, [rank(a) - 1], [0])
    return _tensordot(a, b, [rank(a) - 1], [rank(b) - 2])


@public
def inner(x1, x2):
    """Return the sum product over the last axes."""
    a, b = promote(x1, x2)
    if rank(a) == 0 or rank(b) == 0:
        return prim.mul(a, b)
    return _tensordot(a, b, [rank(a) - 1], [rank(b) - 1])


@public
def vdot(x1, x2):
    """Return the sum product of the flattened tensors."""
    a, b = promote(x1, x2)
    flat = [prim.reshape(t, shape=(dim.product(t.shape),)) for t in (a, b)]
    return prim.reduce_sum(prim.mul(*flat), axes=(0,), keepdims=False)


@public
def outer(x1, x2):
    """Return all products of the elements of two flattened tensors."""
    a, b = promote(x1, x2)
    a = prim.reshape(a, shape=(dim.product(a.shape), 1))
    b = prim.reshape(b, shape=(1, dim.product(b.shape)))
    return prim.mul(a, b)


@public
def tensordot(x1, x2, axes=2):
    """Return the sum product over pairs of axes."""
    a, b = promote(x1, x2)
    if isinstance(axes, int):
        left, right = list(range(rank(a) - axes, rank(a))), list(range(axes))
    else:
        left, right = (list(s) if isinstance(s, (list, tuple)) else [s] for s in axes)
    return _tensordot(a, b, [axis_of(i, rank(a)) for i in left], [axis_of(i, rank(b)) for i in right])


def _tensordot(a, b, left: Sequence[int], right: Sequence[int]):
    """Contract through one matrix product: contracted axes last in a, first in b."""
    for i, j in zip(left, right, strict=True):
        if a.shape[i] != b.shape[j]:
            raise ShapeError(
                f"contracted sizes differ: axis {i} of {tuple(a.shape)} against axis {j} of {tuple(b.shape)}"
            )
    keep_a = [i for i in range(rank(a)) if i not in left]
    keep_b = [i for i in range(rank(b)) if i not in right]
    shape = (*(a.shape[i] for i in keep_a), *(b.shape[i] for i in keep_b))
    inner_size = dim.product(a.shape[i] for i in left)
    a = prim.reshape(_permuted(a, (*keep_a, *left)), shape=(dim.product(a.shape[i] for i in keep_a), inner_size))
    b = prim.reshape(_permuted(b, (*right, *keep_b)), shape=(inner_size, dim.product(b.shape[i] for i in keep_b)))
    return prim.reshape(_matmul(a, b), shape=shape)


def _permuted(x, perm: tuple[int, ...]):
    return x if perm == tuple(range(len(perm))) else prim.transpose(x, perm=perm)


@public
def einsum(subscripts, *operands, **kwargs):
    """Return the sum of products that `subscripts` describes, e.g. `"bij,bjk->bik"`; `...` is allowed."""
    xs = promote(*operands)
    inputs, output = _letters(subscripts, xs)
    while len(xs) > 2:  # two at a time, from the left
        wanted = set(output) | set("".join(inputs[2:]))
        kept = "".join(dict.fromkeys(c for c in inputs[0] + inputs[1] if c in wanted))
        pair = _einsum_of_two(inputs[0], xs[0], inputs[1], xs[1], kept)
        xs, inputs = [pair, *xs[2:]], [kept, *inputs[2:]]
    if len(xs) == 2:
        return _einsum_of_two(inputs[0], xs[0], inputs[1], xs[1], output)
    x, letters = _without_repeats(xs[0], inputs[0])
    return _arranged(x, letters, output)


def _letters(subscripts: str, xs) -> tuple[list[str], str]:
    text = subscripts.replace(" ", "")
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(xs):
        raise ArgumentError(f"einsum {subscripts!r} describes {len(inputs)} operands, received {len(xs)}")
    free = [c for c in string.ascii_letters if c not in text]
    longest = builtins.max((rank(x) - len(s.replace("...", "")) for s, x in zip(inputs, xs) if "..." in s), default=0)
    dots = "".join(free[:longest])
    named = []
    for letters, x in zip(inputs, xs):
        if "..." in letters:
            count = rank(x) - len(letters.replace("...", ""))
            letters = letters.replace("...", dots[longest - count :])
        if len(letters) != rank(x):
            raise ArgumentError(
                f"einsum {subscripts!r}: {letters!r} names {len(letters)} axes of a rank {rank(x)} tensor"
            )
        named.append(letters)
    if arrow:
        output = output.replace("...", dots)
    else:
        joined = "".join(named)
        output = dots + "".join(sorted(c for c in set(joined) - set(dots) if joined.count(c) == 1))
    unknown = set(output) - set("".join(named))
    if unknown:
        raise ArgumentError(f"einsum {subscripts!r}: {''.join(sorted(unknown))!r} is in the output only")
    return named, output


def _without_repeats(x, letters: str):
    """Replace a letter that occurs twice (a diagonal) by one axis."""
    while len(set(letters)) < len(letters):
        twice = next(c for c in letters if letters.count(c) > 1)
        first = letters.index(twice)
        second = letters.index(twice, first + 1)
        (x,) = promote(diagonal(x, 0, first, second))
        letters = "".join(c for i, c in enumerate(letters) if i not in (first, second)) + twice
    return x, letters


def _arranged(x, letters: str, output: str):
    """Sum away the letters that are not in the output, and order the rest."""
    gone = tuple(i for i, c in enumerate(letters) if c not in output)
    if gone:
        x = prim.reduce_sum(x, axes=gone, keepdims=False)
        letters = "".join(c for c in letters if c in output)
    return _permuted(x, tuple(letters.index(c) for c in output))


def _einsum_of_two(a_letters: str, a, b_letters: str, b, output: str):
    a, a_letters = _without_repeats(a, a_letters)
    b, b_letters = _without_repeats(b, b_letters)
    a, a_letters = _alone_summed(a, a_letters, b_letters + output)
    b, b_letters = _alone_summed(b, b_letters, a_letters + output)
    a, b = _unbroadcast(a, a_letters, b, b_letters)
    if not set(a_letters) & set(b_letters) - set(output):  # nothing to contract: a broadcast product
        return _product(a, a_letters, b, b_letters, output)
    return _einsum(f"{a_letters},{b_letters}->{output}", a, b)


def _alone_summed(x, letters: str, others: str):
    kept = "".join(c for c in letters if c in others)
    return _arranged(x, letters, kept), kept


def _unbroadcast(a, a_letters: str, b, b_letters: str):
    """Axes of size 1 that meet a larger one are repeated (einsum broadcasts `...`)."""
    sizes: dict = {}
    for letters, x in ((a_letters, a), (b_letters, b)):
        for letter, size in zip(letters, x.shape):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = size
            elif size not in (1, sizes[letter]):
                raise ShapeError(f"einsum: axis {letter!r} has sizes {sizes[letter]} and {size}")
    full = []
    for letters, x in ((a_letters, a), (b_letters, b)):
        shape = tuple(sizes[c] for c in letters)
        full.append(x if shape == tuple(x.shape) else prim.broadcast_to(x, shape=shape))
    return full


def _product(a, a_letters: str, b, b_letters: str, output: str):
    spread = []
    for x, letters in ((a, a_letters), (b, b_letters)):
        ordered = _permuted(x, tuple(letters.index(c) for c in output if c in letters))
        sizes = iter(ordered.shape)
        spread.append(prim.reshape(ordered, shape=tuple(next(sizes) if c in letters else 1 for c in output)))
    return prim.mul(*spread)
