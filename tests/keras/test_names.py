"""Every public name of Keras 3.15 is here, or `kcompile.keras.absent` gives the reason, which its error tells."""

import pytest

from kcompile import keras
from kcompile.errors import MissingNameError
from kcompile.keras.absent import ABSENT

MODULES = (
    "",
    *(
        "activations applications backend callbacks config constraints datasets distribution dtype_policies "
        "initializers layers losses metrics mixed_precision models ops ops.image ops.linalg ops.nn ops.numpy "
        "optimizers optimizers.schedules preprocessing random regularizers saving tree utils "
        "utils.bounding_boxes visualization wrappers"
    ).split(),
)
NOT_KERAS = {"src", "legacy"}  # modules of the real package's own


def inside(module, path: str):
    for part in path.split(".") if path else ():
        module = getattr(module, part)
    return module


def names(module) -> set[str]:
    return {n for n in dir(module) if not n.startswith("_")} - NOT_KERAS


@pytest.mark.parametrize("path", MODULES)
def test_names(path, real_keras):
    try:
        theirs = inside(real_keras, path)
    except AttributeError:
        pytest.skip(f"Keras has no {path}")
    ours = inside(keras, path)
    missing = {n for n in names(theirs) if not hasattr(ours, n)}
    listed = {name.removeprefix(f"{path}.") for name in ABSENT if name.rpartition(".")[0] == path}
    assert missing <= listed, f"missing without a reason: {sorted(missing - listed)}"
    here = {n for n in listed if hasattr(ours, n)}
    assert not here, f"there after all: {sorted(here)}"


def test_errors_give_the_reason():
    for path, reason in ABSENT.items():
        module, _, name = path.rpartition(".")
        with pytest.raises(MissingNameError) as found:
            getattr(inside(keras, module), name)
        assert path in str(found.value) and reason in str(found.value)


def test_stars_bring_every_layer():
    """`from kcompile.keras.layers import *`, as many scripts begin."""
    names: dict = {}
    exec("from kcompile.keras.layers import *", names)
    assert {"Dense", "Conv2D", "LSTM", "Input", "Layer", "add", "TextVectorization", "MaxPool2D"} <= set(names)
    assert names["Dense"] is keras.layers.Dense and "plugins" not in names


def test_a_star_of_the_backend_brings_what_keras_brings(real_keras):
    ours: dict = {}
    theirs: dict = {}
    exec("from kcompile.keras.backend import *", ours)
    exec("from keras.backend import *", theirs)
    assert set(ours) == set(theirs)
    assert keras.backend.rnn and keras.backend.name_scope  # tf.keras 2's, by name
