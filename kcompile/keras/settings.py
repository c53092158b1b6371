"""Process-wide settings of the Keras front: default float type, epsilon, image layout, logging.

What tracing and dtype policies read; `config.py` is the public module.
"""

from __future__ import annotations

import threading

from kcompile.errors import ArgumentError

_FLOATS = ("bfloat16", "float16", "float32", "float64")
_state = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "max_epochs": None,
}
_local = threading.local()


def floatx() -> str:
    """Return the default float dtype, e.g. `"float32"`."""
    return _state["floatx"]


def set_floatx(value: str) -> None:
    """Set the default float dtype.

    >>> set_floatx("float32")
    """
    if value not in _FLOATS:
        raise ArgumentError(f"Unknown `floatx` value: {value!r}. Expected one of {_FLOATS}")
    _state["floatx"] = value


def epsilon() -> float:
    """Return the fuzz factor used in numeric expressions (1e-7)."""
    return _state["epsilon"]


def set_epsilon(value: float) -> None:
    """Set the fuzz factor used in numeric expressions."""
    _state["epsilon"] = float(value)


def image_data_format() -> str:
    """Return the default image layout, `"channels_last"` or `"channels_first"`."""
    return _state["image_data_format"]


def set_image_data_format(data_format: str) -> None:
    """Set the default image layout."""
    _state["image_data_format"] = standardize_data_format(data_format)


def standardize_data_format(data_format: str | None) -> str:
    """Return `data_format`, or the default for None.

    Raises: ArgumentError for anything but the two layouts.
    """
    if data_format is None:
        return image_data_format()
    name = str(data_format).lower()
    if name not in ("channels_first", "channels_last"):
        raise ArgumentError(
            "The `data_format` argument must be one of {'channels_first', 'channels_last'}. "
            f"Received: data_format={data_format}"
        )
    return name


def backend() -> str:
    """Return `"kcompile"`."""
    return "kcompile"


def is_interactive_logging_enabled() -> bool:
    """True if progress goes to the console (default) rather than to `logging`."""
    return getattr(_local, "interactive_logging", True)


def enable_interactive_logging() -> None:
    """Print progress to the console."""
    _local.interactive_logging = True


def disable_interactive_logging() -> None:
    """Send progress to `logging` instead of the console."""
    _local.interactive_logging = False


def is_traceback_filtering_enabled() -> bool:
    """Tracebacks are not filtered: errors name the layer and the line themselves."""
    return False


def enable_traceback_filtering() -> None:
    """Accepted for compatibility; see `is_traceback_filtering_enabled`."""


def disable_traceback_filtering() -> None:
    """Accepted for compatibility; see `is_traceback_filtering_enabled`."""


def set_backend(backend: str) -> None:
    """Accept "kcompile", the only one."""
    if backend != "kcompile":
        raise ArgumentError(f"set_backend({backend!r}): models are compiled by kcompile; there is no other backend")


def max_epochs() -> int | None:
    """Return the most epochs any `fit` runs, or None."""
    return _state["max_epochs"]


def set_max_epochs(max_epochs: int | None) -> None:
    """Limit the epochs of every `fit`, to try a script quickly; None takes the limit off."""
    _state["max_epochs"] = max_epochs


def is_flash_attention_enabled() -> None:
    """Return None: the compiler decides how attention runs (a block of queries at a time, nothing large stored)."""


def enable_flash_attention() -> None:
    """Accepted for compatibility; see `is_flash_attention_enabled`."""


def disable_flash_attention() -> None:
    """Accepted for compatibility; see `is_flash_attention_enabled`."""


def is_nnx_enabled() -> bool:
    """Return False: Flax is not involved."""
    return False


def enable_unsafe_deserialization() -> None:
    """Refused: `safe_mode=False` of a single `load_model` lets that file's code run."""
    raise ArgumentError("enable_unsafe_deserialization: pass `safe_mode=False` to `load_model` for files you trust")
