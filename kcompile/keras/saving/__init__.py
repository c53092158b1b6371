"""keras.saving: models to files and back. h5py is loaded when a file is opened.

api.py         save_model, load_model, save_weights, load_weights: which format
archive.py     .keras files and folders          legacy_h5.py   the older HDF5 layout
state.py       objects <-> Keras 3's weights layout
configs.py     configs as files hold them <-> ours; the layouts of tf.keras 2 and Keras 3
operations.py  keras.ops functions in configs    compilation.py arguments of compile
text.py        JSON and YAML                     pickled.py       pickles and copies
files.py       atomic writing                    cudnn.py         weights of GPU layers

Files are data: no code in them is run, and names are looked up only among registered and custom objects.
"""

from kcompile.keras.absent import missing
from kcompile.keras.saving.api import load_model, load_weights, save_model, save_weights
from kcompile.keras.saving.text import (
    model_from_config,
    model_from_json,
    model_from_yaml,
    model_to_json,
    model_to_yaml,
)
from kcompile.keras.serialization import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)

__all__ = [
    "CustomObjectScope",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_weights",
    "model_from_config",
    "model_from_json",
    "model_from_yaml",
    "model_to_json",
    "model_to_yaml",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise missing("saving", name)
