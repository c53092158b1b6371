"""How far two results of one computation may differ, per dtype: the one table of tests.

`rtol` is a few units in the last place times the depth of a short sum; `atol` covers results that
cancel to nearly zero. Integers and bools must be equal.
"""

from __future__ import annotations

import numpy as np

from kcompile.ir.types import dtype

TOLERANCES: dict[str, tuple[float, float]] = {  # dtype -> (rtol, atol)
    "f64": (1e-12, 1e-12),
    "f32": (2e-6, 2e-6),
    "f16": (4e-3, 4e-3),  # 10 bits of fraction, rounded once per operation
    "bf16": (3e-2, 3e-2),  # 7 bits of fraction
}

# The reason for each exception: the native polynomials are good to 2 ulp, NumPy's own to 4; a quotient
# of such results or a power adds up a few of them.
EXCEPTIONS: dict[tuple[str, str], tuple[float, float]] = {
    ("pow", "f32"): (1e-5, 1e-6),
    ("erfinv", "f32"): (1e-5, 1e-6),  # steep towards 1: an ulp of the argument is many of the result
    ("erfinv", "f64"): (1e-10, 1e-12),
}

# central differences in float64 with step h have an error of about h**2 and 1e-16 / h
GRADIENT = {"rtol": 2e-6, "atol": 2e-7}
GRADIENT_STEP = 1e-5


def tolerance(kind: object, op: str = "") -> dict[str, float]:
    """Keyword arguments of np.testing.assert_allclose for results of dtype `kind`, of op `op` if given."""
    name = dtype(kind).name
    rtol, atol = EXCEPTIONS.get((op, name), TOLERANCES.get(name, (0.0, 0.0)))
    return {"rtol": rtol, "atol": atol}


def assert_close(actual, expected, op: str = "", context: str = "") -> None:
    """Assert equal shapes, dtypes and, within the table, numbers; NaN equals NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{context}: {actual.dtype} instead of {expected.dtype}"
    assert actual.shape == expected.shape, f"{context}: {actual.shape} instead of {expected.shape}"
    np.testing.assert_allclose(actual, expected, **tolerance(expected.dtype, op), err_msg=context)
