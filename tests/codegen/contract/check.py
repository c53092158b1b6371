"""Compare a compiled contraction with a direct NumPy evaluation of its spec."""

from __future__ import annotations

import numpy as np

from kcompile.ir import dim
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

TOLERANCE = {"f32": 1e-5, "f64": 1e-13, "f16": 2e-3, "i32": 0.0, "i64": 0.0}  # relative to the sum of |products|


def reference(spec: str, x0: np.ndarray, x1: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
    """The spec evaluated by einsum on strided views, in the operands' dtype."""
    left, out = spec.split("->")
    letters, views = [], []
    for text, x in zip(left.split(";"), (x0, x1)):
        steps = dict.fromkeys(sizes, 0)
        backwards = [n for n, part in enumerate(text.split(",")) if "*-" in part]  # these are one letter each
        x, text = np.flip(x, backwards), text.replace("*-", "*")
        for stride, part in zip(x.strides, filter(None, text.split(","))):
            for term in part.split("+"):
                letter, _, factor = term.partition("*")
                steps[letter] += stride * int(factor or 1)
        used = [c for c in sizes if f",{c}," in f",{text},".replace("+", ",").replace("*", ",")]
        views.append(np.lib.stride_tricks.as_strided(x, [sizes[c] for c in used], [steps[c] for c in used]))
        letters.append("".join(used))
    return np.einsum(f"{letters[0]},{letters[1]}->{out.replace(',', '')}", *views)


def operands(form, sizes, kind: str, seed: int = 0) -> list[np.ndarray]:
    """Random arrays for x0 and x1."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(dim.evaluate(s, sizes) for s in b.type.shape) for b in form.buffers[:2]]
    if kind.startswith("i"):
        return [rng.integers(-9, 9, s).astype(f"int{kind[1:]}") for s in shapes]
    return [rng.standard_normal(s).astype(f"float{kind[1:]}") for s in shapes]


def check(spec: str, sizes: dict, actual: dict | None = None, kind: str = "f32", target=None, **how) -> None:
    """Compile `spec`; compare with NumPy; then again with the tasks split, bit by bit."""
    actual = actual or {}
    form = contract_form(spec, sizes, kind, **how)
    x0, x1 = operands(form, actual, kind)
    known = {c: dim.evaluate(s, actual) for c, s in sizes.items()}
    wide = np.float64 if kind.startswith("f") else np.int64
    expected = reference(spec, x0.astype(wide), x1.astype(wide), known)
    scale = reference(spec, np.abs(x0).astype(wide), np.abs(x1).astype(wide), known)
    got = run_form(form, {"x0": x0, "x1": x1}, actual, target=target)["y"]
    assert got.shape == expected.shape
    assert np.all(np.abs(got - expected) <= TOLERANCE[kind] * scale), f"{spec} {sizes} {actual}"
    split = run_form(form, {"x0": x0, "x1": x1}, actual, workers=3, target=target)["y"]
    np.testing.assert_array_equal(got, split)
