"""keras.datasets: `load_data()` of each gives `(x_train, y_train), (x_test, y_test)`.

reading.py   where files come from, .npz archives, cutting down texts
pickles.py   pickled files read without running anything in them     cifar.py   the files of both CIFARs

Files are fetched once into the cache (`KERAS_HOME`, or `~/.keras`) and compared with their hash.
"""

from kcompile.keras.datasets import (
    boston_housing,
    california_housing,
    cifar10,
    cifar100,
    fashion_mnist,
    imdb,
    mnist,
    reuters,
)

__all__ = [
    "boston_housing",
    "california_housing",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "imdb",
    "mnist",
    "reuters",
]
