"""The public API: `from kcompile import keras`, then everything as in Keras.

Names are loaded on first use, so that importing costs nothing. Folders, top to bottom:

models/ training/ saving/ datasets/ applications/     built of all below
utils/ preprocessing/ wrappers/ visualization.py      beside them
backend.py legacy_backend.py legacy_functions.py      tf.keras 2's K
layers/ losses/ metrics/ optimizers/ callbacks/       pieces that plug in (see registry.py)
ops/ random/ activations/ initializers/ regularizers/ constraints/
tracing/                                              symbolic tensors, variables, trace
serialization.py configurable.py                      objects <-> configs
config.py settings.py dtype_policies/ mixed_precision/   settings
hdf5.py                                               HDF5 files, read with distrust
absent.py distribution.py                             names that are not here, and why
"""

from __future__ import annotations

import importlib

from kcompile.errors import suggestion
from kcompile.keras.absent import missing

_SUBMODULES = (
    "activations",
    "applications",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "datasets",
    "distribution",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "ops",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "registry",
    "saving",
    "tree",
    "utils",
    "visualization",
    "wrappers",
)
# public name -> (module, name there)
_NAMES = {
    "Callback": ("callbacks", "Callback"),
    "Constraint": ("constraints", "Constraint"),
    "DTypePolicy": ("dtype_policies", "DTypePolicy"),
    "FloatDTypePolicy": ("dtype_policies", "FloatDTypePolicy"),
    "Functional": ("models", "Functional"),
    "GradientTape": ("tracing.tape", "GradientTape"),
    "Initializer": ("initializers", "Initializer"),
    "Input": ("layers", "Input"),
    "InputSpec": ("layers", "InputSpec"),
    "KerasTensor": ("tracing", "KerasTensor"),
    "Layer": ("layers", "Layer"),
    "Loss": ("losses", "Loss"),
    "Metric": ("metrics", "Metric"),
    "Model": ("models", "Model"),
    "Optimizer": ("optimizers", "Optimizer"),
    "Regularizer": ("regularizers", "Regularizer"),
    "Sequential": ("models", "Sequential"),
    "Variable": ("tracing", "Variable"),
    "name_scope": ("tracing.scope", "name_scope"),
    "remat": ("ops.functions", "remat"),
    "register": ("registry", "register"),
    "register_activation": ("registry", "register_activation"),
    "register_callback": ("registry", "register_callback"),
    "register_constraint": ("registry", "register_constraint"),
    "register_initializer": ("registry", "register_initializer"),
    "register_layer": ("registry", "register_layer"),
    "register_loss": ("losses.loss", "register_loss"),
    "register_metric": ("metrics.reduction", "register_metric"),
    "register_optimizer": ("optimizers.optimizer", "register_optimizer"),
    "register_regularizer": ("registry", "register_regularizer"),
}
_ELSEWHERE = {"tree": "kcompile.keras.tracing.tree"}  # submodules that live in another folder

__all__ = [*_SUBMODULES, *_NAMES, "version"]


def version() -> str:
    """Return the version of the Keras API that is followed."""
    return __version__


__version__ = "3.15.0"


def __getattr__(name: str):
    if name in _NAMES:
        module, label = _NAMES[name]
        found = getattr(importlib.import_module(f"kcompile.keras.{module}"), label)
    elif name in _SUBMODULES:
        module = _ELSEWHERE.get(name, f"kcompile.keras.{name}")
        found = importlib.import_module(module)
    else:
        raise missing("", name, suggestion(name, __all__))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
