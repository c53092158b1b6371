"""California housing: house values of 20,640 districts from 8 numbers. Pace, Barry 1997."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras.datasets.reading import fetch, read_npz, shuffled_split

_SHA256 = "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"
_SMALL_ROWS = 600


def load_data(
    version: str = "large", path: str = "california_housing.npz", test_split: float = 0.2, seed: int = 113
) -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`.

    Args:
        version: "large": all rows, "small": the first 600.
        path: name in the cache, or an absolute path of a file at hand.

    Shapes: x [n, 8] float32, y [n] float32.
    """
    if version not in ("large", "small"):
        raise ArgumentError(f"`version` must be 'large' or 'small'. Received: version={version!r}")
    x, y = read_npz(fetch(path, "california_housing.npz", _SHA256), ("x", "y"))
    if version == "small":
        x, y = x[:_SMALL_ROWS], y[:_SMALL_ROWS]
    return shuffled_split(x, y, test_split, seed)
