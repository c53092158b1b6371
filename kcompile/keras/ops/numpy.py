"""keras.ops.numpy: functions of keras.ops under that name too."""

from kcompile.errors import MissingNameError, suggestion
from kcompile.keras import ops


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    if not callable(vars(ops).get(name)):
        raise MissingNameError(f"keras.ops.numpy.{name} is not available in kcompile.{suggestion(name, ops.__all__)}")
    return getattr(ops, name)


def __dir__() -> list[str]:
    return sorted(ops.__all__)
