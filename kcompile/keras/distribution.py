"""`keras.distribution`: one CPU. The rest of Keras's module says why it is missing."""

from __future__ import annotations

from kcompile.errors import NotSupportedError
from kcompile.keras.absent import missing

__all__ = ["distribution", "get_device_count", "list_devices", "set_distribution"]


def list_devices(device_type=None) -> list[str]:
    """Return the devices: the CPU."""
    return ["cpu:0"] if device_type in (None, "cpu", "CPU") else []


def get_device_count(device_type=None) -> int:
    """Return how many devices there are."""
    return len(list_devices(device_type))


def distribution() -> None:
    """Return the distribution in use: none."""


def set_distribution(value) -> None:
    """Accept None; anything else cannot be."""
    if value is not None:
        raise NotSupportedError(f"set_distribution({value!r}): a program runs on one CPU and its cores")


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise missing("distribution", name)
