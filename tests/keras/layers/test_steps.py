"""Every layer against real Keras over five updates: its outputs by their losses, gradients of inputs and weights."""

import pytest

from kcompile import keras, plugins
from tests.keras.layers.steps.branches import compare
from tests.keras.layers.steps.cases import ELSEWHERE, FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_five_steps(family, real_keras):
    compare(real_keras, keras, FAMILIES[family])


def test_every_layer_has_a_branch():
    names = plugins.names("layers", aliases=False)
    ours = {n for n in names if plugins.get("layers", n).__module__.startswith("kcompile.keras.layers")}
    covered = {name for family in FAMILIES.values() for branch in family.values() for name in branch.classes}
    assert ours - covered == set(ELSEWHERE)
