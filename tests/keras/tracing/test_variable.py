"""Variable and VariableArena outside a trace."""

import copy
import pickle

import numpy as np
import pytest

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import ops
from kcompile.keras.tracing import Variable, VariableArena


def test_values_and_assignment():
    v = Variable([1.0, 2.0], name="v")
    assert v.shape == (2,) and v.dtype == "float32" and v.trainable and v.path == "v"
    before = v.numpy()
    v.assign([3.0, 4.0])
    v.assign_add([1, 1])
    v.assign_sub(0.5 * v)
    np.testing.assert_array_equal(v.numpy(), [2.0, 2.5])
    np.testing.assert_array_equal(before, [1, 2])
    np.testing.assert_array_equal(v * 2 + np.ones(2), [5, 6])


def test_initializers():
    assert Variable("zeros", shape=(2, 3)).numpy().shape == (2, 3)
    np.testing.assert_array_equal(Variable(lambda shape, dtype: np.full(shape, 2, dtype), shape=(2,)), [2, 2])
    assert Variable(3, dtype="int64").dtype == "int64"
    with pytest.raises(ArgumentError, match="shape"):
        Variable("zeros")
    with pytest.raises(ShapeError, match=r"expected shape \(2,\), received \(3,\)"):
        Variable([1.0, 2.0]).assign([1.0, 2.0, 3.0])


def test_results_do_not_change_with_the_variable():
    v = Variable([1.0, 2.0, 3.0, 4.0])
    kept = [ops.reshape(v, (2, 2)), v.value, ops.convert_to_tensor(v), v[1:]]
    before = [np.array(k) for k in kept]
    v.assign(np.zeros(4))
    for now, then in zip(kept, before):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_copies_have_their_own_numbers(again):
    v = Variable([1.0], name="v")
    VariableArena("a", [v])
    other = again(v)
    other.assign([2.0])
    assert v.numpy() == [1.0] and other.name == "v" and not np.shares_memory(other._array, v._array)


def test_storage_begins_on_a_cache_line():
    made = [Variable(np.ones((2, size), "float32").T) for size in range(1, 20)]
    made += [copy.deepcopy(v) for v in made] + [pickle.loads(pickle.dumps(v)) for v in made]
    assert all(v._array.flags.c_contiguous and v._array.ctypes.data % 64 == 0 for v in made)


def test_arena_layout():
    a, b, c = Variable(np.arange(3.0, dtype="f")), Variable([[5.0]]), Variable(np.ones((4, 5), "f"))
    arena = VariableArena("params", [a, b, c])
    assert arena.offsets == [0, 16, 32] and arena.size == 64
    assert arena.buffer.ctypes.data % 64 == 0
    np.testing.assert_array_equal(a.numpy(), [0, 1, 2])
    arena.buffer[16] = 7
    assert b.numpy() == [[7]]
    b.assign([[8.0]])
    assert arena.buffer[16] == 8 and np.all(arena.buffer[3:16] == 0)
    assert arena.holds([a, b, c]) and not arena.holds([a, b])
    VariableArena("other", [a])
    assert not arena.holds([a, b, c])


def test_arena_takes_one_dtype():
    with pytest.raises(ArgumentError, match="one dtype"):
        VariableArena("mixed", [Variable([1.0]), Variable([1])])
