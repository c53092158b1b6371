"""The spec of a contraction: what is read where, as text and as a record.

    "b,i*2+r,c;r,c,n->b,i,n"

Operands are separated by `;`. A dimension is a sum of axis letters with positive coefficients;
the result's dimensions are letters. Letters may have several characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kcompile.errors import ShapeError
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.types import shape_text

Affine = "tuple[tuple[str, int], ...]"  # (letter, coefficient), ...


@dataclass(frozen=True)
class Spec:
    """A parsed spec: the dimensions of the operands, the letters of the result."""

    lhs: tuple[Affine, ...]
    rhs: tuple[Affine, ...]
    out: tuple[str, ...]

    @property
    def sides(self) -> tuple[tuple[Affine, ...], tuple[Affine, ...]]:
        return self.lhs, self.rhs

    @property
    def over(self) -> tuple[str, ...]:
        """Letters that are summed, in order of appearance."""
        return tuple(letter for letter in letters_of(*self.sides) if letter not in self.out)

    def __str__(self) -> str:
        sides = (",".join("+".join(map(_term_text, d)) for d in side) for side in self.sides)
        return f"{';'.join(sides)}->{','.join(self.out)}"


def _term_text(term: tuple[str, int]) -> str:
    letter, coefficient = term
    return letter if coefficient == 1 else f"{letter}*{coefficient}"


_TERM = re.compile(r"([A-Za-z]\w*)(?:\*([1-9]\d*))?")


@lru_cache(maxsize=4096)
def parse_spec(text: str) -> Spec:
    """Return the record of a spec. Raises: ShapeError that shows the part which cannot be read."""
    match = re.fullmatch(r"([^;>]*);([^;>]*)->([^;>]*)", text.replace(" ", ""))
    if match is None:
        raise ShapeError(f"contract: {text!r} is not of the form 'dims;dims->letters'")
    lhs, rhs = (tuple(_parse_dim(d, text) for d in _split(side)) for side in match.groups()[:2])
    out = tuple(_split(match[3]))
    if len(set(out)) != len(out):
        raise ShapeError(f"contract: {text!r} repeats a letter in its result")
    unknown = set(out) - set(letters_of(lhs, rhs))
    if unknown:
        raise ShapeError(f"contract: {text!r} has {sorted(unknown)} in its result and in no operand")
    return Spec(lhs, rhs, out)


def _split(part: str) -> list[str]:
    return part.split(",") if part else []


def _parse_dim(part: str, text: str) -> Affine:
    terms = []
    for piece in part.split("+"):
        match = _TERM.fullmatch(piece)
        if match is None:
            raise ShapeError(f"contract: cannot read {piece!r} in {text!r}")
        terms.append((match[1], int(match[2] or 1)))
    if len({letter for letter, _ in terms}) != len(terms):
        raise ShapeError(f"contract: {part!r} in {text!r} repeats a letter")
    return tuple(terms)


def letters_of(*sides: Sequence[Affine]) -> tuple[str, ...]:
    """Every letter of the given operands' dimensions once, in order of appearance."""
    return tuple(dict.fromkeys(letter for side in sides for d in side for letter, _ in d))


def plain_letter(d: Affine) -> str | None:
    """The letter of a dimension that is one letter, else None."""
    return d[0][0] if len(d) == 1 and d[0][1] == 1 else None


def extents(spec: Spec, shapes: Sequence[Sequence[DimLike]], sizes: Sequence[tuple[str, DimLike]]) -> dict:
    """Return the extent of every letter. Raises: ShapeError where operands disagree or a window is out of bounds."""
    known: dict[str, DimLike] = dict(sizes)
    for side, shape in zip(spec.sides, shapes):
        if len(side) != len(shape):
            raise ShapeError(f"contract: {spec} needs {len(side)} dimensions, received {shape_text(shape)}")
        for d, size in zip(side, shape):
            letter = plain_letter(d)
            if letter is not None and known.setdefault(letter, size) != size:
                raise ShapeError(
                    f"contract: axis {letter!r} of {spec} has sizes {known[letter]} and {size}, "
                    f"received shapes {shape_text(shapes[0])} and {shape_text(shapes[1])}"
                )
    missing = [letter for letter in letters_of(*spec.sides) if letter not in known]
    if missing:
        raise ShapeError(f"contract: sizes of {missing} in {spec} are not known; give them in `sizes`")
    for side, shape in zip(spec.sides, shapes):
        for d, size in zip(side, shape):
            if plain_letter(d) is not None or any(known[letter] == 0 for letter, _ in d):
                continue
            last = sum(((known[letter] - 1) * c for letter, c in d), start=0)
            if dim.is_static(size - 1 - last) and size - 1 - last < 0:
                raise ShapeError(
                    f"contract: {'+'.join(map(_term_text, d))} reaches {last} in a dimension of size {size} ({spec})"
                )
    return known
