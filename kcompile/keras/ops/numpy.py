"""keras.ops.numpy: functions of keras.ops under that name too."""

from kcompile.errors import MissingNameError, suggestion
from kcompile.keras.ops.function import PUBLIC


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    if name not in PUBLIC:
        raise MissingNameError(f"keras.ops.numpy.{name} is not available in kcompile.{suggestion(name, PUBLIC)}")
    return PUBLIC[name]


def __dir__() -> list[str]:
    return sorted(PUBLIC)
