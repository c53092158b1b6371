"""keras.models: Model, Sequential, Functional, clone_model; saving is looked up when used.

graph.py       the calls between inputs and outputs, in running order
model.py       Model           functional.py   Model(inputs, outputs) and its config
sequential.py  Sequential      cloning.py      clone_model
shortcuts.py   methods whose work is done above: saving, exporting, looking
summary.py     the table       exporting.py    model.export
feature_space.py  columns of a table, prepared (keras.utils.FeatureSpace)
checking.py    what `kcompile check` says      function.py  tf.keras 2's K.function
"""

from kcompile.errors import MissingNameError
from kcompile.keras.models.cloning import clone_model
from kcompile.keras.models.functional import Functional
from kcompile.keras.models.model import Model
from kcompile.keras.models.sequential import Sequential

_SAVING = (
    "load_model",
    "model_from_config",
    "model_from_json",
    "model_from_yaml",
    "save_model",
)

__all__ = ["Functional", "Model", "Sequential", "clone_model", *_SAVING]


def __getattr__(name: str):
    if name in _SAVING:
        from kcompile.keras import saving  # loaded on use: it brings h5py

        return getattr(saving, name)
    raise MissingNameError(f"keras.models has no {name!r}")
