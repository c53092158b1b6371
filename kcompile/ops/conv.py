"""Convolution of any rank, plain, strided, dilated, grouped, depthwise and transposed: specs of `contract`.

Layouts: x [batch, *spatial, channels], w [*window, c_in / groups, c_out]. Padding is a `pad` in front,
so the contraction itself is always "valid". Sizes follow Keras: "same" gives ceil(size / stride) and
puts the smaller half of the padding first.
"""

from __future__ import annotations

from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, shape_text
from kcompile.ops.adjoint import full_transpose
from kcompile.ops.contract import contract
from kcompile.ops.shape import pad, reshape

Padding = "str | Sequence[tuple[DimLike, DimLike]]"  # a name, or (low, high) per spatial dimension


def conv(x, w, strides=1, padding: Padding = "valid", dilation=1, groups: int = 1):
    """Correlate windows of x with the filter w.

    Shapes:  x [b, *spatial, c_in], w [*window, c_in / groups, c_out] -> [b, *out, c_out].
    Args:    padding: "valid", "same", "causal", or (low, high) per spatial dimension.
    Raises:  ShapeError if ranks or channels do not fit, ArgumentError for another padding.
    """
    rank = len(x.shape) - 2
    if len(w.shape) != rank + 2 or rank < 1:
        raise ShapeError(f"conv expects a filter of {rank + 2} dimensions for {_text(x)}, received {_text(w)}")
    c_in, c_out = x.shape[-1], w.shape[-1]
    if c_in != w.shape[-2] * groups or c_out % groups:
        raise ShapeError(
            f"conv: input {_text(x)} has {c_in} channels, filter {_text(w)} in {groups} group(s) takes "
            f"{w.shape[-2] * groups} and gives {c_out}"
        )
    strides, dilation, window = _each(strides, rank), _each(dilation, rank), tuple(w.shape[:-2])
    x = padded(x, window, strides, padding, dilation)
    rows, taps, sizes = _window_terms(x, window, strides, dilation)
    out = [f"i{n}" for n in range(rank)]
    if groups == 1:
        spec = f"b,{rows},c;{taps},c,n->b,{','.join(out)},n"
        return contract(x, w, spec=spec, sizes=sizes)
    x = reshape(x, shape=(*x.shape[:-1], groups, c_in // groups))
    w = reshape(w, shape=(*w.shape[:-1], groups, c_out // groups))
    y = contract(x, w, spec=f"b,{rows},g,c;{taps},c,g,n->b,{','.join(out)},g,n", sizes=sizes)
    return reshape(y, shape=(*y.shape[:-2], c_out))


def depthwise_conv(x, w, strides=1, padding: Padding = "valid", dilation=1):
    """Convolve every channel by itself.

    Shapes:  x [b, *spatial, c], w [*window, c, multiplier] -> [b, *out, c * multiplier].
    """
    rank = len(x.shape) - 2
    if len(w.shape) != rank + 2 or rank < 1 or w.shape[-2] != x.shape[-1]:
        raise ShapeError(f"depthwise_conv: filter {_text(w)} does not fit input {_text(x)}")
    strides, dilation, window = _each(strides, rank), _each(dilation, rank), tuple(w.shape[:-2])
    channels, multiplier = w.shape[-2:]
    x = padded(x, window, strides, padding, dilation)
    rows, taps, sizes = _window_terms(x, window, strides, dilation)
    out = ",".join(f"i{n}" for n in range(rank))
    if multiplier == 1:
        w = reshape(w, shape=tuple(w.shape[:-1]))
        return contract(x, w, spec=f"b,{rows},c;{taps},c->b,{out},c", sizes=sizes)
    y = contract(x, w, spec=f"b,{rows},c;{taps},c,n->b,{out},c,n", sizes=sizes)
    return reshape(y, shape=(*y.shape[:-2], channels * multiplier))


def conv_transpose(x, w, strides=1, padding: str = "valid", output_padding=None, dilation=1):
    """The transpose of `conv` as a linear map, which makes things larger: Keras's Conv*Transpose.

    Shapes:  x [b, *spatial, c_in], w [*window, c_out, c_in] -> [b, *out, c_out].
    """
    rank = len(x.shape) - 2
    if len(w.shape) != rank + 2 or rank < 1 or w.shape[-1] != x.shape[-1]:
        raise ShapeError(f"conv_transpose: filter {_text(w)} does not fit input {_text(x)}")
    strides, dilation = _each(strides, rank), _each(dilation, rank)
    extra = _each(output_padding, rank)
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[:-2], dilation)]
    crops = [conv_transpose_crop(span, s, padding, e) for span, s, e in zip(spans, strides, extra)]
    sizes = [conv_transpose_size(n, span, s, padding, e) for n, span, s, e in zip(x.shape[1:-1], spans, strides, extra)]
    # what the vjp of `conv` does to a cotangent, for an input size of our choice
    y = full_transpose(x, w, strides, dilation, [c + n for c, n in zip(crops, sizes)])
    if any(c != 0 for c in crops):
        edges = (0, *crops, 0)
        y = pad(y, low=tuple(-c for c in edges), high=(0,) * (rank + 2), interior=(0,) * (rank + 2), value=0)
    return transposed(y, x, w, strides=strides, dilation=dilation, crops=tuple(crops))


def _transposed_vjp(g, y, result, x, w, *, strides, dilation, crops):
    """The cotangents of a transposed convolution: `conv` of that of its result, and a filter gradient.

    The result may be put together from phases (adjoint.py), whose own gradients would each pass over the cotangent.
    """
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[:-2], dilation)]
    edges = []
    for n, (size, span, stride, crop) in enumerate(zip(x.shape[1:-1], spans, strides, crops), 1):
        edges.append((crop, (size - 1) * stride + span - crop - g.shape[n]))
    g = padded(g, w.shape[:-2], strides, edges, dilation)
    rows, taps, _ = _window_terms(g, w.shape[:-2], strides, dilation)
    images = ",".join(f"i{n}" for n in range(len(spans)))
    sizes = tuple((f"r{n}", k) for n, k in enumerate(w.shape[:-2]))
    dw = contract(g, x, spec=f"b,{rows},c;b,{images},n->{taps},c,n", sizes=sizes)
    return None, conv(g, w, strides, "valid", dilation), dw


transposed = register(
    Op(
        "transposed",  # a result as it is, of a transposed convolution of two operands: what its gradient follows from
        Kind.CONTROL,
        lambda y, x, w, **attrs: y,
        lambda y, x, w, **attrs: y,
        _transposed_vjp,
        samples=lambda rng: (),
        facts={"gradient_only": True},
    )
)


def padded(x, window, strides, padding: Padding, dilation, value=0):
    """Pad the spatial dimensions of a channels-last x as `padding` says."""
    amounts = padding_amounts(tuple(x.shape[1:-1]), window, strides, padding, dilation)
    if all(low == 0 and high == 0 for low, high in amounts):
        return x
    low, high = zip((0, 0), *amounts, (0, 0))
    return pad(x, low=low, high=high, interior=(0,) * len(low), value=value)


def padding_amounts(sizes, window, strides, padding: Padding, dilation) -> list[tuple[DimLike, DimLike]]:
    """Return (low, high) per dimension. A negative high means that the last elements are never read."""
    if not isinstance(padding, str):
        amounts = [tuple(p) for p in padding]
        if len(amounts) != len(window) or any(len(p) != 2 for p in amounts):
            raise ArgumentError(f"padding: expected (low, high) for {len(window)} dimensions, received {padding!r}")
        return amounts
    spans = [(k - 1) * d + 1 for k, d in zip(window, dilation)]
    if padding == "valid":
        return [(0, 0)] * len(spans)
    if padding == "causal":
        return [(span - 1, 0) for span in spans]
    if padding == "same":
        return [same_padding(n, span, stride) for n, span, stride in zip(sizes, spans, strides)]
    raise ArgumentError(f"padding: expected 'valid', 'same', 'causal' or pairs of numbers, received {padding!r}")


def same_padding(size: DimLike, span: int, stride: int) -> tuple[DimLike, DimLike]:
    """Return (low, high) such that windows of `span` at every `stride` give ceil(size / stride) results.

    low is max(total, 0) // 2 as in Keras; high makes the total exact, and may crop.
    """
    total = (dim.floordiv(size + stride - 1, stride) - 1) * stride + span - size
    if dim.is_static(total):
        low = max(total, 0) // 2
        return low, max(total, 0) - low
    # For a size known only at run time max(total, 0) // 2 counts the m with total >= 2m; as
    # span - stride <= total < span, "total >= 2m" is (total - 2m + width) // width, 0 or 1.
    width = max(span, stride)
    whole = max(span - stride, 0) // 2  # always reached
    low: DimLike = whole
    for m in range(whole + 1, (span - 1) // 2 + 1):
        low = low + dim.floordiv(total - 2 * m + width, width)
    return low, total - low


def conv_transpose_size(size: DimLike, span: int, stride: int, padding: str, output_padding: int | None) -> DimLike:
    """The length of a transposed convolution's result, as Keras has it; `span` is the dilated window."""
    if padding == "valid":
        return (size - 1) * stride + (max(span, stride) if output_padding is None else span + output_padding)
    if padding == "same":
        if output_padding is None:
            return size * stride
        return (size - 1) * stride + span % 2 + output_padding
    raise ArgumentError(f"padding: expected 'valid' or 'same', received {padding!r}")


def conv_transpose_crop(span: int, stride: int, padding: str, output_padding: int | None) -> int:
    """How many elements of the full transposed convolution come before the first one kept."""
    if padding == "valid":
        return 0
    around = span + stride - 2 if output_padding is None else span + span % 2 - 2 + output_padding
    return span - 1 - min(around // 2 + around % 2, span - 1)


def _window_terms(x, window, strides, dilation):
    """The spec text of the windowed dimensions, of the filter's, and the result sizes."""
    rows, sizes = [], []
    for n, (k, stride, gap) in enumerate(zip(window, strides, dilation)):
        size = dim.floordiv(x.shape[n + 1] - (k - 1) * gap - 1, stride) + 1
        if dim.is_static(size) and size < 1 and x.shape[n + 1] != 0:
            raise ShapeError(f"conv: a window of {k} (dilation {gap}) does not fit dimension {n + 1} of {_text(x)}")
        rows.append(f"i{n}{_times(stride)}+r{n}{_times(gap)}")
        sizes.append((f"i{n}", size))
    return ",".join(rows), ",".join(f"r{n}" for n in range(len(window))), tuple(sizes)


def _times(n: int) -> str:
    return "" if n == 1 else f"*{n}"


def _each(value, rank: int) -> tuple:
    return (value,) * rank if value is None or isinstance(value, int) else tuple(value)


def _text(x: Type) -> str:
    return shape_text(x.shape)
