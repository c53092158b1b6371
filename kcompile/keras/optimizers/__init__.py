"""`keras.optimizers`: one file per optimizer; optimizer.py holds what they share, schedules.py the rates.

state.py      what an optimizer holds and saves        clipping.py   bounds on gradients
lookup.py     one by name or config                    wrapper.py    optimizers around others
"""

from __future__ import annotations

from kcompile import plugins
from kcompile.errors import MissingNameError, suggestion
from kcompile.keras.optimizers import legacy, schedules
from kcompile.keras.optimizers.adadelta import Adadelta
from kcompile.keras.optimizers.adafactor import Adafactor
from kcompile.keras.optimizers.adagrad import Adagrad
from kcompile.keras.optimizers.adam import Adam, AdamW
from kcompile.keras.optimizers.adamax import Adamax
from kcompile.keras.optimizers.ftrl import Ftrl
from kcompile.keras.optimizers.lamb import Lamb
from kcompile.keras.optimizers.lion import Lion
from kcompile.keras.optimizers.lookup import deserialize, get, serialize
from kcompile.keras.optimizers.multi_optimizer import MultiOptimizer, OptimizerMap
from kcompile.keras.optimizers.muon import Muon
from kcompile.keras.optimizers.nadam import Nadam
from kcompile.keras.optimizers.optimizer import FlatWeights, Optimizer, Slots, register_optimizer
from kcompile.keras.optimizers.rmsprop import RMSprop
from kcompile.keras.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from kcompile.keras.optimizers.schedules import LearningRateSchedule
from kcompile.keras.optimizers.sgd import SGD
from kcompile.keras.optimizers.wrapper import LossScaleOptimizer, TFOptimizer

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "FlatWeights",
    "Ftrl",
    "Lamb",
    "LearningRateSchedule",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "Optimizer",
    "OptimizerMap",
    "RMSprop",
    "ScheduleFreeAdamW",
    "Slots",
    "TFOptimizer",
    "deserialize",
    "get",
    "legacy",
    "register_optimizer",
    "schedules",
    "serialize",
]


def __getattr__(name: str):
    """Optimizers of installed plugins appear here under their names."""
    if name.startswith("__"):
        raise AttributeError(name)
    found = plugins.find("optimizers", name)
    if found is None:
        hint = suggestion(name, plugins.names("optimizers"))
        raise MissingNameError(f"keras.optimizers has no optimizer {name!r} in kcompile.{hint}")
    return found
