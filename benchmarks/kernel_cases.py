"""Which kernels are measured: sizes, arrays made from a fixed seed, and what each has to compute and move.

Images are [batch, height, width, channels], convolutions pad "same". Sizes are those of the networks named in the
groups, and odd ones that no network has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FORWARD, DATA, FILTER = "forward", "data gradient", "filter gradient"
INFERENCE = "inference"  # forward, with a filter that may be prepared beforehand
LINE_BYTES = 64


@dataclass(frozen=True)
class Case:
    """One row. `kind` picks the functions of the peers, `sizes` are theirs to read."""

    group: str
    kind: str
    sizes: tuple
    quick: bool = False  # part of --quick

    @property
    def name(self) -> str:
        return f"{self.group}: {self.kind} {'x'.join(map(str, self.sizes))}"


def _gemms() -> list[Case]:
    square = [Case("gemm", "gemm", (n, n, n), n == 256) for n in (256, 384, 512, 768, 1024, 1536, 2048)]
    odd = [
        *((37, 53, 911), (63, 65, 64), (129, 127, 131), (1000, 999, 37), (511, 513, 7), (3, 5, 4096), (17, 1025, 300)),
        *((32, 10, 512), (128, 10, 784), (4096, 10, 64), (1000, 1, 1000), (1, 1000, 1000), (1, 4096, 4096)),
        *((4096, 64, 64), (4096, 16, 256), (64, 4096, 64), (16, 4096, 256), (8, 8, 4096), (64, 64, 4096)),
        *((2048, 2048, 4), (2048, 2048, 16), (32, 512, 784), (128, 512, 512), (384, 768, 768), (384, 3072, 768)),
        *((250, 10, 2048), (1, 10, 512), (100, 100, 100), (200, 3, 300), (5, 3000, 50), (2, 4096, 128), (4096, 4, 32)),
        *((1000, 1000, 1), (7, 11, 13), (33, 129, 2000), (1, 512, 784), (10, 1, 64), (16, 1024, 1024), (32, 256, 64)),
    ]
    cases = square + [Case("gemm odd", "gemm", s, s == (37, 53, 911)) for s in odd]
    for kind in ("gemm a'b", "gemm ab'"):
        shapes = ((512, 512, 512), (784, 512, 128), (512, 10, 128), (37, 53, 911), (3072, 768, 384), (784, 10, 32))
        shapes += ((10, 512, 32), (32, 512, 10), (3, 5, 4096), (1, 1000, 1000), (2000, 64, 1000))
        cases += [Case("gemm transposed", kind, s, s == (37, 53, 911)) for s in shapes]
    return cases


def _convolutions() -> list[Case]:
    """Sizes: batch, height, width, channels in, channels out, window height, window width, stride."""
    layers = {
        "resnet50": [
            *((224, 224, 3, 64, 7, 7, 2), (56, 56, 64, 64, 1, 1, 1), (56, 56, 64, 64, 3, 3, 1)),
            *((56, 56, 64, 256, 1, 1, 1), (56, 56, 256, 512, 1, 1, 2), (56, 56, 128, 128, 3, 3, 2)),
            *((28, 28, 128, 128, 3, 3, 1), (14, 14, 256, 256, 3, 3, 1), (14, 14, 1024, 256, 1, 1, 1)),
            *((7, 7, 512, 512, 3, 3, 1), (7, 7, 512, 2048, 1, 1, 1)),
        ],
        "vgg16": [
            *((224, 224, 3, 64, 3, 3, 1), (224, 224, 64, 64, 3, 3, 1), (112, 112, 128, 128, 3, 3, 1)),
            *((56, 56, 256, 256, 3, 3, 1), (28, 28, 512, 512, 3, 3, 1), (14, 14, 512, 512, 3, 3, 1)),
        ],
        "mobilenet": [(112, 112, 32, 64, 1, 1, 1), (14, 14, 512, 512, 1, 1, 1)],
        "mnist cnn": [(28, 28, 1, 32, 3, 3, 1), (13, 13, 32, 64, 3, 3, 1)],
        "conv odd": [(31, 29, 17, 23, 5, 3, 1), (19, 23, 45, 67, 3, 3, 2)],
    }
    batches = {"vgg16": (1, 4), "mnist cnn": (1, 32, 128)}
    found = []
    for group, shapes in layers.items():
        for batch in batches.get(group, (1, 32)):
            for direction in (FORWARD, DATA, FILTER):
                for shape in shapes:
                    quick = batch == 1 and shape in ((14, 14, 256, 256, 3, 3, 1), (31, 29, 17, 23, 5, 3, 1))
                    found.append(Case(group, f"conv {direction}", (batch, *shape), quick))
    for group in ("resnet50", "vgg16"):
        for shape in layers[group]:
            if shape[-3:] == (3, 3, 1):
                found.append(Case(group, f"conv {INFERENCE}", (1, *shape), shape == (14, 14, 256, 256, 3, 3, 1)))
    depthwise = ((112, 112, 32, 3, 1), (112, 112, 64, 3, 2), (56, 56, 128, 3, 1), (14, 14, 512, 3, 1))
    for batch in (1, 32):
        for direction in (FORWARD, DATA, FILTER):
            for shape in depthwise:
                quick = batch == 1 and shape == (14, 14, 512, 3, 1)
                found.append(Case("mobilenet", f"depthwise {direction}", (batch, *shape), quick))
    return found


def _others() -> list[Case]:
    rows = ((32, 10), (128, 1000), (3072, 128), (384, 768), (8192, 1024))
    found = [
        Case("rows", kind, s, s == (128, 1000))
        for kind in (
            *("softmax", "softmax gradient", "cross-entropy", "cross-entropy gradient"),
            *("layer norm", "layer norm gradient"),
        )
        for s in rows
    ]
    images = ((32, 28, 28, 32), (1, 112, 112, 64), (32, 56, 56, 64), (32, 14, 14, 512))
    found += [
        Case("images", kind, s, s == (32, 28, 28, 32))
        for kind in (
            *("batch norm statistics", "batch norm", "batch norm gradient"),
            *("max pool", "max pool gradient", "average pool", "average pool gradient"),
        )
        for s in images
    ]
    found += [
        Case("elementwise", "chain", (steps, count), count == 1 << 16 and steps == 3)
        for steps in (3, 5, 10)
        for count in (1 << 12, 1 << 16, 1 << 20, 1 << 24)
    ]
    found += [Case("elementwise", "adam", (count,), count == 1 << 16) for count in (1 << 12, 1 << 16, 1 << 20, 1 << 23)]
    return found


CASES: tuple[Case, ...] = (*_gemms(), *_convolutions(), *_others())


def arrays(case: Case) -> dict[str, np.ndarray]:
    """The inputs of a case by name, float32, on whole lines as all peers place arrays of their own.

    Labels are classes. NumPy places large arrays 16 bytes behind a line: then each vector is read from two.
    """
    draw = np.random.default_rng(0)
    return {
        name: on_lines(
            draw.integers(0, case.sizes[-1], shape, "int32")
            if name == "labels"
            else draw.standard_normal(shape, "float32")
        )
        for name, shape in shapes(case).items()
    }


def on_lines(array: np.ndarray) -> np.ndarray:
    """A copy that begins on a line."""
    room = np.empty(array.nbytes + LINE_BYTES, np.uint8)
    start = -room.ctypes.data % LINE_BYTES
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs by name."""
    kind, s = case.kind, case.sizes
    if kind.startswith("gemm"):
        m, n, k = s
        return {"a": (k, m) if "a'" in kind else (m, k), "b": (n, k) if "b'" in kind else (k, n)}
    if kind.startswith(("conv", "depthwise")):
        x, w, y = image_shapes(case)
        named = {
            FORWARD: {"x": x, "w": w},
            INFERENCE: {"x": x, "w": w},
            DATA: {"dy": y, "w": w},
            FILTER: {"x": x, "dy": y},
        }
        return named[kind.partition(" ")[2]]
    if kind.startswith(("layer norm", "batch norm")) and kind != "batch norm statistics":
        given = {"x": s, "gamma": s[-1:], "beta": s[-1:]}
        return {**given, "dy": s} if kind.endswith("gradient") else given
    if kind.startswith("cross-entropy"):
        return {"x": s, "labels": s[:1]}
    if kind == "softmax gradient":
        return {"x": s, "dy": s}
    if kind.endswith("pool gradient"):
        pooled = {"dy": (s[0], s[1] // 2, s[2] // 2, s[3])}
        return {"x": s, **pooled} if kind.startswith("max") else pooled
    if kind == "chain":
        return {"x": (s[1],), "y": (s[1],)}
    if kind == "adam":
        return {"g": s}
    return {"x": s}


def image_shapes(case: Case) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shapes of input, filter (as Keras has them) and output of a convolution."""
    if case.kind.startswith("depthwise"):
        batch, height, width, channels, window, stride = case.sizes
        w, out = (window, window, channels, 1), channels
    else:
        batch, height, width, channels, out, *w, stride = case.sizes
        w = (*w, channels, out)
    return (batch, height, width, channels), w, (batch, -(-height // stride), -(-width // stride), out)


def multiply_adds(case: Case) -> int:
    """Multiply-adds of products and convolutions, padding counted; 0 for what memory limits."""
    if case.kind.startswith("gemm"):
        return int(np.prod(case.sizes))
    if case.kind.startswith(("conv", "depthwise")):
        _, w, y = image_shapes(case)
        return int(np.prod(y)) * w[0] * w[1] * (1 if case.kind.startswith("depthwise") else w[2])
    return 0


# How often an array larger than a core's own caches has to be read: statistics need all of it before its first number
# can be used, and so do the sums of a gradient, which here includes the forward statistics.
PASSES = {"batch norm": {"x": 2}, "batch norm gradient": {"x": 3, "dy": 2}}


def moved_bytes(case: Case) -> int:
    """Bytes of all inputs and results, each once."""
    return sum(touched_bytes(case))


def traffic(case: Case) -> tuple[int, int]:
    """Bytes read and written, as often as they have to be."""
    read, written = touched_bytes(case)
    given = shapes(case)
    return read + sum(4 * (n - 1) * int(np.prod(given[x])) for x, n in PASSES.get(case.kind, {}).items()), written


def touched_bytes(case: Case) -> tuple[int, int]:
    """Bytes read and written, each array once; Adam reads and writes three arrays and reads the gradient."""
    if case.kind == "adam":
        return 4 * 4 * case.sizes[0], 4 * 3 * case.sizes[0]
    given = shapes(case)
    results = {
        "gemm": case.sizes[:1] + case.sizes[1:2],
        "max pool": (*case.sizes[:1], *(n // 2 for n in case.sizes[1:3]), *case.sizes[3:]),
        "average pool": (*case.sizes[:1], *(n // 2 for n in case.sizes[1:3]), *case.sizes[3:]),
        "average pool gradient": case.sizes,
        "batch norm statistics": (2, case.sizes[-1]),
        "cross-entropy": case.sizes[:1],
        "chain": case.sizes[1:],
    }
    if case.kind.startswith(("conv", "depthwise")):
        missing = dict(zip(("x", "w", "dy"), image_shapes(case)))
        result = next(v for n, v in missing.items() if n not in given)
    else:
        result = results.get("gemm" if case.kind.startswith("gemm") else case.kind, given.get("x"))
    return 4 * sum(int(np.prod(s)) for s in given.values()), 4 * int(np.prod(result))
