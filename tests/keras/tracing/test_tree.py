"""keras.tree against real Keras."""

import collections

import pytest

from kcompile.keras import tree

Point = collections.namedtuple("Point", "x y")
NESTED = {"b": [1, (2, 3)], "a": Point(4, [5]), "c": []}


def visit(module, top_down):
    seen = []
    return module.traverse(lambda v: seen.append(v), NESTED, top_down), seen


@pytest.mark.parametrize("top_down", [True, False])
def test_traverse(top_down, real_keras):
    theirs = real_keras.tree
    assert visit(tree, top_down) == visit(theirs, top_down)

    def change(module):
        return lambda v: module.MAP_TO_NONE if v == 3 else "list" if isinstance(v, list) and top_down else None

    assert tree.traverse(change(tree), NESTED, top_down) == theirs.traverse(change(theirs), NESTED, top_down)


def test_the_others(real_keras):
    theirs = real_keras.tree
    assert tree.lists_to_tuples(NESTED) == theirs.lists_to_tuples(NESTED)
    shapes = {"a": (None, 2), "b": [(3,), (4, 5)]}
    assert tree.map_shape_structure(len, shapes) == theirs.map_shape_structure(len, shapes)
    # as Keras's documentation has it; version 3.15 itself refuses the example
    assert tree.map_structure_up_to([None, [None, None]], str, [[1, 1], [2, 3]]) == ["[1, 1]", ["2", "3"]]
    tree.assert_same_paths([0, (1, 2)], (3, [4, 5]))
    with pytest.raises(ValueError, match="paths"):
        tree.assert_same_paths([0, 1], [0, [1]])
