"""An image whose channels lie side by side, copied so that the pixels of a row do: windows read in vectors of pixels.

Vectors along the channels of the result are part empty where these do not fill them: 17 take two. Pixels of the image
are the other choice, but neighbours lie a whole pixel apart, and panels would hold each of them once for every tap.
So the rows of the image are turned, each once:

    planes[..., channel, pixel] = image[..., pixel, channel]

and every tap of a window reads the same rows from a place of its own. Rows are padded to whole vectors. The filter is
broadcast, a row of the tile for every channel of the result, and tiles are turned back when they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llvmlite import ir

from kcompile.codegen.contract.affine import Affine, Memory, extent
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.transpose import transposed
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import I1, Index, vector
from kcompile.forms.records import IN, Buffer, Contract
from kcompile.forms.scalar import Load, load
from kcompile.ir import dim
from kcompile.ir.dim import DimLike, nominal
from kcompile.ir.types import DType, Type
from kcompile.target import Target

NAME = "planes"
WASTED = 1.1  # vectors hold so many times what there is of columns, or another path has no reason to be tried
UNALIGNED = 1.08  # vectors that begin anywhere in a line, half of them in two
MASKED_VECTOR_BYTES = 32  # targets with vectors of this size have masked loads


@dataclass(frozen=True)
class Planes:
    """The copy: `rows` rows of `pixels` x `channels` of a buffer, turned; `width` elements per channel of a row."""

    buffer: str
    dtype: DType
    rows: DimLike
    pixels: int
    channels: int
    width: int

    @property
    def elements(self) -> DimLike:
        return self.rows * self.channels * self.width


def rewritten(form: Contract, side: str, target: Target) -> tuple[Contract, Planes] | None:
    """The form reading the copy of one operand, and the copy; None if that operand is not an image.

    The form names the copy as a buffer; `in_workspace` puts it where it lies.
    """
    image = getattr(form, side)
    if not isinstance(image, Load) or image.dtype is not form.dtype or image.buffer in form.steady:
        return None
    shape = next(b.type.shape for b in form.buffers if b.name == image.buffer)
    if len(shape) < 3 or not all(dim.is_static(n) for n in shape[-2:]):
        return None
    pixels, channels = shape[-2:]
    lanes = target.lanes(form.dtype.size_bytes)
    if pixels < lanes // 2 or (channels < lanes and target.vector_bytes < MASKED_VECTOR_BYTES):
        return None
    *around, pixel, channel = image.index
    width = -(-pixels // lanes) * lanes
    copy = Planes(image.buffer, image.dtype, dim.product(shape[:-2]), pixels, channels, width)
    buffer = Buffer(NAME, Type(image.dtype, (*shape[:-2], channels, width)), IN)
    turned = load(NAME, (*around, channel, pixel), image.dtype)
    borders = [replace(b, buffer=NAME, inside=_turned(b.inside)) for b in form.borders if b.buffer == image.buffer]
    changed = {side: turned, "borders": (*form.borders, *borders)}
    return replace(form, buffers=(*form.buffers, buffer), **changed), copy


def _turned(places: tuple) -> tuple:
    """What is said of each dimension of an image, for its copy."""
    *around, pixel, channel = places
    return (*around, channel, pixel)


def are_worth_a_try(problem: Problem, target: Target) -> bool:
    """True if windows overlap, for else panels serve as well, and the columns of the result leave lanes empty."""
    if problem.sums or problem.pair:
        return False
    lanes = target.lanes(problem.dtype.size_bytes)
    for view in (problem, problem.swapped()):
        size, image = extent(view.n), view.lhs.memory
        if image is None or not dim.is_static(size) or -(-size // lanes) * lanes < WASTED * size:
            continue
        read = nominal(extent((*view.batch, *view.m, *view.k)))
        if read > nominal(dim.product(view.shapes[image.buffer])):
            return True
    return False


def in_workspace(plan: Plan, copy: Planes, cycles: float) -> Plan:
    """The plan reading the copy in the shared workspace, where nothing lies before it."""
    at = Affine(plan.b.at.offset, plan.b.at.strides)
    return replace(plan, b=Memory(SHARED_SPACE, copy.dtype, at), planes=copy, cycles=UNALIGNED * plan.cycles + cycles)


def elements(plan: Plan) -> DimLike:
    """Elements of the copy; 0 if the image is read where it lies."""
    return plan.planes.elements if plan.planes else 0


def emit_phases(module, target, sig: Signature, plan: Plan, name: str) -> tuple[Phase, ...]:
    """Write the phase that turns the rows of the image, one task each; none if it is read where it lies."""
    copy = plan.planes
    if copy is None:
        return ()
    frame = Frame.exported(module, target, f"{name}_planes", sig)
    b, lanes = frame.b, plan.lanes
    source, to = frame.pointers[copy.buffer], frame.pointers[SHARED_SPACE]
    wide = min(lanes, copy.channels)
    with b.loop("row", b["begin"], b["end"], **ROLLED) as row:
        start, place = b.mul(row, copy.pixels * copy.channels), b.mul(row, copy.channels * copy.width)
        with (
            b.loop("channel", 0, copy.channels, lanes, **ROLLED) as first,
            b.loop("pixel", 0, copy.pixels, lanes, **ROLLED) as pixel,
        ):
            channel = b.min(first, copy.channels - wide)  # the last square overlaps the one before it
            corner = b.add(place, b.add(b.mul(channel, copy.width), pixel))
            # pixels beyond the last repeat it, in elements that no result needs
            pixels = [b.min(b.add(pixel, i), copy.pixels - 1) for i in range(lanes)]
            lines = [b.add(b.add(start, b.mul(p, copy.channels)), channel) for p in pixels]
            square = transposed(b, [_line(b, source, copy, at, lanes) for at in lines])
            for i, line in enumerate(square[:wide]):
                b.store_vector(line, to, copy.dtype, b.add(corner, i * copy.width))
    b.ret()
    return (Phase(f"{name}_planes", copy.rows, copy.channels * copy.width),)


def _line(b, source: ir.Value, copy: Planes, at: Index, lanes: int) -> ir.Value:
    """The channels of a pixel from one place on, no more of them than there are."""
    if copy.channels >= lanes:
        return b.load_vector(source, copy.dtype, at, lanes)
    mask = ir.Constant(vector(I1, lanes), [I1(int(i < copy.channels)) for i in range(lanes)])
    return b.load_masked(source, copy.dtype, at, mask)
