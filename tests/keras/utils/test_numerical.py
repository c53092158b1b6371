"""to_categorical, normalize (D-11)."""

import numpy as np
import pytest

from kcompile.errors import ArgumentError
from kcompile.keras import utils


def test_to_categorical():
    found = utils.to_categorical([0, 1, 2, 3], 4)
    np.testing.assert_array_equal(found, np.eye(4))
    assert found.dtype == np.float32
    assert utils.to_categorical([[1], [0]], dtype="int32").tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ArgumentError, match="0 to 2"):
        utils.to_categorical([3], 3)


def test_normalize():
    np.testing.assert_allclose(utils.normalize([[3, 4], [0, 5]]), [[0.6, 0.8], [0, 1]])
    np.testing.assert_allclose(utils.normalize([[3, 4], [0, 5]], order=1), [[3 / 7, 4 / 7], [0, 1]])
