"""Boston housing: prices of houses from 13 numbers about their town. Harrison, Rubinfeld 1978."""

from __future__ import annotations

from kcompile.keras.datasets.reading import fetch, read_npz, shuffled_split

_SHA256 = "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"


def load_data(path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113) -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`: 506 rows in all, prices in thousands of dollars.

    Args:   path: name in the cache, or an absolute path of a file at hand.

    Shapes: x [n, 13] float64, y [n] float64.
    """
    x, y = read_npz(fetch(path, "boston_housing.npz", _SHA256), ("x", "y"))
    return shuffled_split(x, y, test_split, seed)
