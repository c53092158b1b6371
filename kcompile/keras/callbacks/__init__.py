"""`keras.callbacks`: what may watch and steer training. One file per callback."""

from kcompile import plugins
from kcompile.keras.absent import missing
from kcompile.keras.callbacks.backup_and_restore import BackupAndRestore
from kcompile.keras.callbacks.base_logger import BaseLogger
from kcompile.keras.callbacks.callback import Callback
from kcompile.keras.callbacks.callback_list import CallbackList
from kcompile.keras.callbacks.csv_logger import CSVLogger
from kcompile.keras.callbacks.early_stopping import EarlyStopping
from kcompile.keras.callbacks.history import History
from kcompile.keras.callbacks.lambda_callback import LambdaCallback
from kcompile.keras.callbacks.learning_rate_scheduler import LearningRateScheduler
from kcompile.keras.callbacks.model_checkpoint import ModelCheckpoint
from kcompile.keras.callbacks.progbar import ProgbarLogger
from kcompile.keras.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau
from kcompile.keras.callbacks.remote_monitor import RemoteMonitor
from kcompile.keras.callbacks.swap_ema_weights import SwapEMAWeights
from kcompile.keras.callbacks.tensorboard import TensorBoard
from kcompile.keras.callbacks.terminate_on_nan import TerminateOnNaN

_BUILTIN = (
    BackupAndRestore,
    BaseLogger,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgbarLogger,
    ReduceLROnPlateau,
    RemoteMonitor,
    SwapEMAWeights,
    TensorBoard,
    TerminateOnNaN,
)

for _class in _BUILTIN:
    plugins.register("callbacks", _class.__name__, _class)

__all__ = ["Callback", "CallbackList", *(c.__name__ for c in _BUILTIN)]


def __getattr__(name: str):
    """Callbacks of installed plugins appear here under their names."""
    found = None if name.startswith("_") else plugins.find("callbacks", name)
    if found is None:
        if name.startswith("__"):
            raise AttributeError(name)
        raise missing("callbacks", name)
    return found
