"""Dtype policies: in which dtype a layer computes, and in which it keeps its weights."""

from __future__ import annotations

from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import settings
from kcompile.keras.absent import missing
from kcompile.keras.tracing.dtypes import standardize_dtype

_current: list[DTypePolicy | None] = [None]
_MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


class DTypePolicy:
    """`"float32"`, `"float64"`, ..., or `"mixed_float16"`: compute in float16, keep weights in float32."""

    keras_module = "keras"

    def __init__(self, name: str | None = None):
        self.name = name or settings.floatx()
        if not isinstance(self.name, str):
            raise ArgumentError(f"'name' must be a string, such as 'mixed_bfloat16'. Received: name={name}")
        mixed = _MIXED.get(self.name)
        self.variable_dtype = "float32" if mixed else standardize_dtype(self.name)
        self.compute_dtype = mixed or self.variable_dtype

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DTypePolicy:
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


def get(identifier: Any) -> DTypePolicy:
    """Return the policy of a name, dtype, config, policy, or None (the default)."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return DTypePolicy(identifier.get("config", identifier)["name"])
    if isinstance(identifier, str) and identifier in _MIXED:
        return DTypePolicy(identifier)
    return DTypePolicy(standardize_dtype(identifier))


def compute_dtype(identifier: Any) -> str:
    """Return the dtype that a name, dtype or policy computes in, or the default for None."""
    if identifier is None:
        return settings.floatx()
    return getattr(identifier, "compute_dtype", None) or str(getattr(identifier, "name", identifier))


def dtype_policy() -> DTypePolicy:
    """Return the default policy."""
    return _current[0] or DTypePolicy(settings.floatx())


def set_dtype_policy(policy: Any) -> None:
    """Set the default policy of layers made from here on."""
    _current[0] = get(policy)


FloatDTypePolicy = DTypePolicy  # its name in older files


def serialize(dtype_policy: DTypePolicy) -> dict[str, Any]:
    """Return a policy as plain data."""
    return {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": dtype_policy.get_config(),
        "registered_name": None,
    }


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> DTypePolicy:
    """Return the policy that `serialize` wrote."""
    return get(config)


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise missing("dtype_policies", name)
