"""Generated from the table of ops: each op on each of its samples.

- `infer` agrees with `ref`, in shape and dtype, without a warning
- the form passes the verifier; interpreted, it agrees with `ref`
- symbolic sizes agree with concrete ones
- `vjp`, through autodiff, agrees with central differences in float64

tests/ops/test_compiled.py compares native code with the references on the same cases.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from kcompile import autodiff
from kcompile.forms import interpret, verify
from kcompile.ir import interpret as graph_interpret
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, dtype
from tests.ops.cases import OPS, Case, all_cases, cases, symbolic
from tests.tolerances import GRADIENT, GRADIENT_STEP, assert_close

# Their leading sizes cannot be symbols: a fixed layout, a seed of two words, the window, the points of a tile.
NEVER_SYMBOLIC = {"pack", "random_bits", "winograd_filter", "winograd_output"}

each_case = pytest.mark.parametrize("case", all_cases(), ids=str)


def test_every_op_has_samples_of_odd_shapes():
    for op in OPS.values():
        shapes = [a.shape for case in cases(op) for a in case.arrays]
        assert len(shapes) >= 2, f"{op.name} has too few samples"


@each_case
def test_infer_agrees_with_ref(case: Case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = case.op.ref(*case.arrays, **case.attrs)
    inferred = case.op.infer(*case.types, **case.attrs)
    pairs = zip(inferred, results) if isinstance(inferred, tuple) else [(inferred, results)]
    for type_, result in pairs:
        assert isinstance(result, np.ndarray)
        assert Type(dtype(result.dtype), result.shape) == type_


@each_case
def test_form_agrees_with_ref(case: Case):
    _check_form(case)


@pytest.mark.parametrize("name", [n for n in OPS if n not in NEVER_SYMBOLIC])
def test_symbolic_sizes_agree_with_concrete(name: str):
    twins = [twin for twin in map(symbolic, cases(OPS[name])) if twin is not None]
    assert twins, f"no sample of {name} can have a symbolic leading dimension"
    for twin in twins:
        _check_form(twin)


def _check_form(case: Case) -> None:
    form = case.op.lower(*case.types, **case.attrs)
    verify.verify(form)
    result = interpret.run(form, {f"x{n}": a for n, a in enumerate(case.arrays)}, case.sizes)["y"]
    attrs = {k: graph_interpret.concrete(v, case.sizes) for k, v in case.attrs.items()}
    assert_close(result, case.op.ref(*case.arrays, **attrs), case.op.name, str(case))


# gradients -------------------------------------------------------------------------------------


def _differentiable_cases() -> list[Case]:
    """Samples of differentiable ops with their reals as float64; none twice, none of NaN or infinity."""
    found: dict[str, Case] = {}
    for case in all_cases():
        reals = [a for a in case.arrays if a.dtype.kind == "f"]
        if not case.op.differentiable or not reals or not all(np.isfinite(a).all() for a in reals):
            continue
        arrays = tuple(a.astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays)
        attrs = {k: "f64" if k == "dtype" and v in ("f32", "f16") else v for k, v in case.attrs.items()}
        twin = Case(case.op, arrays, tuple(Type(dtype(a.dtype), a.shape) for a in arrays), attrs)
        if twin.op.infer(*twin.types, **attrs).dtype.is_float:
            found[str(twin)] = twin
    return list(found.values())


@pytest.mark.parametrize("case", _differentiable_cases(), ids=str)
def test_vjp_agrees_with_central_differences(case: Case):
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 1.5, case.op.ref(*case.arrays, **case.attrs).shape)
    actual = gradients(case, weights)
    for n, array in enumerate(case.arrays):
        if array.dtype.kind == "f":
            expected = central_differences(case, n, weights)
            np.testing.assert_allclose(actual[n], expected, **GRADIENT, err_msg=f"{case}, operand {n}")


def gradients(case: Case, weights: np.ndarray) -> dict[int, np.ndarray]:
    """d sum(weights * op(...)) for every real operand, by autodiff and the references."""
    graph = Graph("vjp")
    inputs = [graph.input(f"x{n}", t) for n, t in enumerate(case.types)]
    loss = OPS["mul"](case.op(*inputs, **case.attrs), weights)
    loss = OPS["reduce_sum"](loss, axes=tuple(range(loss.rank)), keepdims=False)
    real = [n for n, t in enumerate(case.types) if t.dtype.is_float]
    for n, gradient in zip(real, autodiff.grad(loss, [inputs[n] for n in real])):
        graph.output(f"g{n}", gradient)
    outputs, _ = graph_interpret.run(graph, {f"x{n}": a for n, a in enumerate(case.arrays)})
    return {n: outputs[f"g{n}"] for n in real}


def central_differences(case: Case, n: int, weights: np.ndarray) -> np.ndarray:
    """The same by moving each element of operand `n` a little both ways."""
    gradient = np.zeros_like(case.arrays[n])
    for place in np.ndindex(gradient.shape):
        sides = []
        for step in (GRADIENT_STEP, -GRADIENT_STEP):
            moved = [a.copy() for a in case.arrays]
            moved[n][place] += step
            y = case.op.ref(*moved, **case.attrs)
            sides.append(np.sum((weights * y)[np.isfinite(y)]))  # max pooling pads with -inf
        gradient[place] = (sides[0] - sides[1]) / (2 * GRADIENT_STEP)
    return gradient
