"""keras.layers: the layers, plugins' included.

layer.py           Layer: build, call, losses        weights.py   its variables, nodes, config
calling.py         around `call`: tensors, training, masks          tracking.py  what a layer owns
input_spec.py      what a layer demands of its inputs               indices.py   inputs that are indices
compiled_calls.py  calls on arrays as programs; purity.py  where Python has no part in them
stateless.py       a call as a pure function                        lora.py      thin products trained on top
core.py  activations.py  convolutional.py  pooling.py  reshaping.py  normalization.py
renormalization.py  regularization.py  merging.py  einsum_dense.py  locally_connected.py  wrappers.py
attention.py  multi_head_attention.py  rnn/
preprocessing/  from raw data to numbers                             the layers
"""

from kcompile import plugins
from kcompile.errors import suggestion
from kcompile.keras.absent import missing
from kcompile.keras.layers import (
    activations,
    attention,
    convolutional,
    core,
    einsum_dense,
    locally_connected,
    merging,
    multi_head_attention,
    normalization,
    pooling,
    regularization,
    reshaping,
    rnn,
    wrappers,
)
from kcompile.keras.layers.core import Input
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.merging import add, average, concatenate, dot, maximum, minimum, multiply, subtract
from kcompile.keras.layers.preprocessing import (
    colours,
    encoding,
    hashing,
    histograms,
    images,
    lookup,
    mixing,
    numeric,
    policies,
    spectra,
    text,
    warps,
)
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object

_FAMILIES = (
    activations,
    attention,
    colours,
    convolutional,
    core,
    einsum_dense,
    encoding,
    hashing,
    histograms,
    images,
    locally_connected,
    lookup,
    merging,
    mixing,
    multi_head_attention,
    normalization,
    numeric,
    policies,
    pooling,
    regularization,
    reshaping,
    rnn,
    spectra,
    text,
    warps,
    wrappers,
)

# what is no registered layer
_OWN = {
    "Input": Input,
    "InputSpec": InputSpec,
    "Layer": Layer,
    "add": add,
    "average": average,
    "concatenate": concatenate,
    "dot": dot,
    "maximum": maximum,
    "minimum": minimum,
    "multiply": multiply,
    "subtract": subtract,
}


def __getattr__(name: str):
    """Find any registered layer, so that a plugin's class appears here too."""
    if name == "__all__":  # for `from kcompile.keras.layers import *`
        return sorted({*_OWN, "deserialize", "serialize", *plugins.names("layers")})
    if name.startswith("__"):
        raise AttributeError(name)
    found = plugins.find("layers", name)
    if found is None:
        known = plugins.names("layers")
        raise missing("layers", name, suggestion(name, known))
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *plugins.names("layers")})


def serialize(layer):
    """Return the config of a layer, with its class."""
    return serialize_keras_object(layer)


def deserialize(config, custom_objects=None):
    """Return the layer that a config describes."""
    return deserialize_keras_object(config, custom_objects, group="layers")
