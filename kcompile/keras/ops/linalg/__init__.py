"""keras.ops.linalg: factorisations and solvers of matrices [..., n, n], for sizes known at compile time.

Eagerly - arrays outside of a trace - LAPACK computes (through NumPy).

matrices.py     checks, rows, columns, diagonals
elimination.py  cholesky, lu_factor, det, solve, inv, qr
rotations.py    eigh, svd, pinv, lstsq, matrix_rank
norms.py        norm
"""

from kcompile.errors import MissingNameError, NotSupportedError, suggestion
from kcompile.keras.ops.function import PUBLIC
from kcompile.keras.ops.linalg import elimination, matrices, norms, rotations  # noqa: F401  (fill PUBLIC)

_OWN = {name: function for name, function in PUBLIC.items() if function.__module__.startswith(__name__ + ".")}
globals().update(_OWN)


def eig(x):
    """Eigenvalues of general matrices are complex numbers, which kcompile has no dtype for."""
    raise NotSupportedError(
        "keras.ops.eig returns complex numbers, which kcompile has no dtype for; eigh takes symmetric"
    )


__all__ = sorted([*_OWN, "eig"])


def __getattr__(name: str):
    if name == "jvp":  # of another family, Keras lists it here too
        return PUBLIC[name]
    raise MissingNameError(f"keras.ops.linalg.{name} is not available in kcompile.{suggestion(name, __all__)}")
