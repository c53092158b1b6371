"""keras.ops functions that rearrange by a description: rearrange, unfold, fold."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir import dim
from kcompile.keras.ops.function import dtype_key, public, rank
from kcompile.keras.ops.function import tensor as operand
from kcompile.keras.ops.shapes import pad
from kcompile.keras.ops.windows import per_axis
from kcompile.ops.adjoint import full_transpose


def _groups(side: str, pattern: str) -> list[list[str]]:
    """The axes of one side of a pattern: a list of names per axis."""
    if not re.fullmatch(r"\s*((\w+|\([\w\s]*\))\s*)*", side):
        raise ArgumentError(f"rearrange: cannot read {side!r} in the pattern {pattern!r}")
    return [part.strip("()").split() for part in re.findall(r"\w+|\([\w\s]*\)", side)]


@public
def rearrange(tensor, pattern, **axes_lengths):
    """Return a tensor with its axes split, moved and joined as a pattern says.

    >>> rearrange(images, "b (h p) (w q) c -> b (h w) (p q c)", p=2, q=2)
    """
    x = operand(tensor)
    sides = pattern.split("->")
    if len(sides) != 2:
        raise ArgumentError(f"rearrange: a pattern is '... -> ...'. Received: {pattern!r}")
    before, after = (_groups(side, pattern) for side in sides)
    names = [n for group in before for n in group]
    if sorted(names) != sorted(n for group in after for n in group) or len(set(names)) != len(names):
        raise ArgumentError(f"rearrange: both sides of {pattern!r} must name the same axes, each once")
    if len(before) != rank(x):
        raise ShapeError(f"rearrange: {pattern!r} takes {len(before)} axes, received shape {tuple(x.shape)}")
    sizes = dict(axes_lengths)
    for group, size in zip(before, x.shape):
        open_ones = [n for n in group if n not in sizes]
        known = math.prod(sizes[n] for n in group if n in sizes)
        if len(open_ones) > 1:
            raise ArgumentError(f"rearrange: the sizes of {open_ones} in {pattern!r} are not known")
        if open_ones:
            sizes[open_ones[0]] = dim.floordiv(size, known)
        if dim.product([sizes[n] for n in group]) != size:
            raise ShapeError(f"rearrange: an axis of size {size} is not ({' '.join(group)}) of {pattern!r}")
    x = prim.reshape(x, shape=tuple(sizes[n] for n in names))
    x = prim.transpose(x, perm=tuple(names.index(n) for group in after for n in group))
    return prim.reshape(x, shape=tuple(dim.product([sizes[n] for n in group]) for group in after))


def _windows(kernel_size, dilation, padding, stride):
    pairs = (per_axis(v, 2, name) for v, name in zip((kernel_size, dilation, stride), ("size", "dilation", "stride")))
    return (*pairs, (padding, padding) if isinstance(padding, int) else tuple(padding))


def _counts(sizes, window, gaps, strides) -> list:
    return [dim.floordiv(n - gap * (k - 1) - 1, s) + 1 for n, k, gap, s in zip(sizes, window, gaps, strides)]


@public
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """Return the windows of images [n, channels, height, width] as columns [n, channels * window, windows]."""
    x = operand(x)
    if rank(x) != 4:
        raise ShapeError(f"unfold: input must be a 4D tensor. Received: input.shape={tuple(x.shape)}")
    window, gaps, strides, (top, left) = _windows(kernel_size, dilation, padding, stride)
    if top or left:
        x = operand(pad(x, [(0, 0), (0, 0), (top, top), (left, left)]))
    n, channels, *sizes = x.shape
    counts = _counts(sizes, window, gaps, strides)
    parts = [
        prim.reshape(
            prim.slice(
                x,
                starts=(0, 0, row * gaps[0], column * gaps[1]),
                sizes=(n, channels, *counts),
                strides=(1, 1, *strides),
            ),
            shape=(n, channels, 1, *counts),
        )
        for row, column in itertools.product(*map(range, window))
    ]
    found = parts[0] if len(parts) == 1 else prim.concat(*parts, axis=2)
    return prim.reshape(found, shape=(n, channels * math.prod(window), counts[0] * counts[1]))


@public
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Return images [n, channels, *output_size]: columns as `unfold` makes them, added up where they came from."""
    x = operand(x)
    if rank(x) != 3:
        raise ShapeError(f"fold: input must be a 3D tensor. Received: input.shape={tuple(x.shape)}")
    window, gaps, strides, borders = _windows(kernel_size, dilation, padding, stride)
    sizes = per_axis(output_size, 2, "output_size")
    taps = math.prod(window)
    n, columns, count = x.shape
    if columns % taps:
        raise ShapeError(f"fold: {columns} rows of columns are not a multiple of the window's {taps} elements")
    channels = columns // taps
    whole = [size + 2 * border for size, border in zip(sizes, borders)]
    counts = _counts(whole, window, gaps, strides)
    if math.prod(counts) != count:
        raise ShapeError(f"fold: {count} columns where an output of {sizes} has {counts[0]} x {counts[1]} windows")
    # a transposed convolution of each channel; the filter puts element t of a column at tap t
    x = prim.transpose(prim.reshape(x, shape=(n * channels, taps, *counts)), perm=(0, 2, 3, 1))
    places = operand(np.eye(taps).reshape(*window, 1, taps), dtype_key(x))
    found = full_transpose(x, places, strides, gaps, whole)
    found = prim.reshape(found, shape=(n, channels, *whole))
    return prim.slice(found, starts=(0, 0, *borders), sizes=(n, channels, *sizes), strides=(1, 1, 1, 1))
