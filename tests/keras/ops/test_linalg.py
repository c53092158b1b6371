"""keras.ops.linalg: against real Keras; compiled; gradients by finite differences."""

import numpy as np
import pytest

from kcompile import pipeline
from kcompile.errors import KcompileError
from kcompile.keras import ops
from kcompile.keras.tracing import trace
from tests.keras.ops.checking import check, check_compiled, check_gradient, find, ids, leaves

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.standard_normal(shape).astype("float32")


def positive(*batch, n=4):
    a = f(*batch, n, n)
    return a @ np.swapaxes(a, -1, -2) + 2 * np.eye(n, dtype="float32")


SQUARE, SPD = f(2, 4, 4), positive(2)
TRIANGLE = np.tril(f(4, 4)) + 3 * np.eye(4, dtype="float32")
CASES = [
    ("cholesky", (SPD,), {}),
    ("cholesky", (SPD,), {"upper": True}),
    ("cholesky_inverse", (np.linalg.cholesky(SPD[0]),), {}),
    ("lu_factor", (SQUARE,), {}),
    ("det", (SQUARE,), {}),
    ("slogdet", (SQUARE,), {}),
    ("logdet", (SPD,), {}),
    ("inv", (SQUARE,), {}),
    ("solve", (SQUARE, f(2, 4, 3)), {}),
    ("solve", (SQUARE[0], f(4)), {}),
    ("solve_triangular", (TRIANGLE, f(4, 2)), {"lower": True}),
    ("solve_triangular", (TRIANGLE.T.copy(), f(4, 2)), {}),
    ("qr", (f(5, 3),), {}),
    ("qr", (f(2, 3, 5),), {}),
    ("qr", (f(5, 3),), {"mode": "complete"}),
    ("pinv", (f(5, 3),), {}),
    ("pinv", (f(2, 3, 4),), {}),
    ("lstsq", (f(6, 3), f(6)), {}),
    ("lstsq", (f(3, 5), f(3, 2)), {}),
    ("matrix_rank", (np.float32([[1, 2, 3], [2, 4, 6], [0, 1, 1]]),), {}),
    *(("norm", (f(3, 4),), {"ord": o}) for o in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)),
    ("norm", (f(2, 3, 4),), {"ord": 2, "axis": (0, 2), "keepdims": True}),
    ("norm", (f(2, 3),), {"ord": 3, "axis": 1}),
    ("norm", (f(5),), {"ord": 0}),
]


@pytest.mark.parametrize("name, args, kwargs", CASES, ids=ids(CASES))
def test_function(name, args, kwargs, real_keras):
    check(real_keras, name, args, kwargs, rtol=2e-4, atol=1e-4)


def test_compiled(real_keras):
    check_compiled(real_keras, CASES, rtol=2e-4, atol=1e-4)


GRADIENTS = [
    ("cholesky", (positive(n=3),), {}),
    ("cholesky_inverse", (TRIANGLE[:3, :3],), {}),
    ("det", (f(3, 3),), {}),
    ("slogdet", (f(2, 3, 3),), {}),
    ("inv", (f(3, 3),), {}),
    ("solve", (f(3, 3), f(3, 2)), {}),
    ("solve_triangular", (TRIANGLE, f(4, 2)), {"lower": True}),
    ("qr", (f(4, 3),), {}),
    ("pinv", (f(4, 2),), {}),
    ("pinv", (f(2, 3),), {}),
    ("lstsq", (f(4, 2), f(4)), {}),
    ("norm", (f(3, 4),), {"ord": 2}),
    ("norm", (f(3, 4),), {"ord": "nuc"}),
]


@pytest.mark.parametrize("name, args, kwargs", GRADIENTS, ids=ids(GRADIENTS))
def test_gradient(name, args, kwargs):
    check_gradient(name, args, kwargs, rtol=1e-4, atol=1e-5)


def run_compiled(fn, **arrays):
    traced = trace(lambda v: fn(**v), {k: (a.shape, a.dtype) for k, a in arrays.items()})
    return traced.pack(pipeline.compile(traced.graph).run(arrays, traced.arrays()))


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_eigenvalues_and_vectors(n):
    a = f(3, n, n)
    a = a + np.swapaxes(a, -1, -2)
    for w, v in (ops.eigh(a), run_compiled(lambda x: ops.eigh(x), x=a)):
        np.testing.assert_allclose(np.asarray(w), np.linalg.eigvalsh(a), rtol=1e-4, atol=1e-4)
        w, v = np.asarray(w, "float64"), np.asarray(v, "float64")
        np.testing.assert_allclose(v * w[:, None] @ np.swapaxes(v, -1, -2), a, atol=2e-4)
        np.testing.assert_allclose(np.swapaxes(v, -1, -2) @ v, np.broadcast_to(np.eye(n), a.shape), atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (2, 3, 5), (3, 1)])
@pytest.mark.parametrize("full", [True, False])
def test_singular_values_and_vectors(shape, full):
    a = f(*shape)
    for u, s, vt in (ops.svd(a, full), run_compiled(lambda x: ops.svd(x, full), x=a)):
        u, s, vt = (np.asarray(r, "float64") for r in (u, s, vt))
        np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False), rtol=1e-4, atol=1e-5)
        k = min(shape[-2:])
        assert u.shape[-2:] == (shape[-2], shape[-2] if full else k)
        assert vt.shape[-2:] == (shape[-1] if full else k, shape[-1])
        np.testing.assert_allclose(u[..., :k] * s[..., None, :] @ vt[..., :k, :], a, atol=1e-4)
        np.testing.assert_allclose(np.swapaxes(u, -1, -2) @ u - np.eye(u.shape[-1]), 0, atol=1e-4)


def test_gradients_of_what_has_open_signs():
    """Projections on eigenvectors do not depend on their signs."""
    from kcompile.keras.ops import linalg

    a = f(3, 3)

    def eigen(x):
        w, v = linalg.eigh(ops.add(x, ops.transpose(x)))
        return ops.add(ops.matmul(ops.multiply(v, ops.exp(w)), ops.transpose(v)), ops.sum(w))

    def singular(x):
        u, s, vt = linalg.svd(x, False)
        return ops.matmul(ops.multiply(u, ops.exp(s)), vt)

    for n, function in enumerate((eigen, singular)):
        ops_name = f"_test_{n}"
        setattr(ops, ops_name, function)
        try:
            check_gradient(ops_name, (a,), {}, rtol=1e-4, atol=1e-5)
        finally:
            delattr(ops, ops_name)


def test_singular_matrices_give_no_exception():
    zero = np.zeros((3, 3), "float32")
    assert not np.isfinite(np.asarray(ops.inv(zero))).any()
    assert np.isnan(np.asarray(ops.cholesky(-np.eye(3, dtype="float32")))).any()
    assert float(ops.det(zero)) == 0


def test_what_is_missing_says_so():
    with pytest.raises(KcompileError, match="complex"):
        ops.eig(SQUARE)
    with pytest.raises(KcompileError, match=r"known when|compiled"):
        trace(lambda v: ops.pinv(v["x"]), {"x": ((None, 3), "float32")})
    with pytest.raises(KcompileError, match="square"):
        ops.det(f(3, 4))
    assert leaves(find(ops, "linalg.qr")(f(3, 3)))[0].shape == (3, 3)
