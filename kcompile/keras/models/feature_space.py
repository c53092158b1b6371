"""FeatureSpace: the columns of a table, each prepared by a layer of its own, as one vector or by name.

https://keras.io/api/utils/feature_space/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import layers
from kcompile.keras.models.model import Model
from kcompile.keras.registry import register
from kcompile.keras.serialization import deserialize_keras_object, register_keras_serializable, serialize_keras_object
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.names import auto_name
from kcompile.keras.tracing.tensor import KerasTensor, as_tensor

_WITH_BINS = (layers.Discretization, layers.Hashing, layers.HashedCrossing)


@register_keras_serializable("keras.utils")
class Cross:
    """Several features as one: the bin of their combination."""

    def __init__(self, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"):
        self.feature_names, self.crossing_dim = tuple(feature_names), crossing_dim
        self.output_mode = _checked("output_mode", output_mode, ("int", "one_hot"))

    @property
    def name(self) -> str:
        return "_X_".join(self.feature_names)

    def get_config(self) -> dict[str, Any]:
        return {
            "feature_names": self.feature_names,
            "crossing_dim": self.crossing_dim,
            "output_mode": self.output_mode,
        }


@register_keras_serializable("keras.utils")
class Feature:
    """One column: its dtype, the layer that prepares it, how the result is encoded."""

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str):
        self.dtype, self.output_mode = dtype, _checked("output_mode", output_mode, ("int", "one_hot", "float"))
        self.preprocessor = deserialize_keras_object(preprocessor) if isinstance(preprocessor, dict) else preprocessor

    def get_config(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "preprocessor": serialize_keras_object(self.preprocessor),
            "output_mode": self.output_mode,
        }


@register
class FeatureSpace(Model):
    """Columns of a table, each prepared by a layer of its own, as one vector or by name.

    Args:
        features: name -> `FeatureSpace.string_categorical()` and the like, or their names.
        output_mode: "concat": one vector, features in the order of their names, then crosses; "dict": by name.
        crosses: tuples of names, or `FeatureSpace.cross(...)`: features that count in combination.
        crossing_dim, hashing_dim, num_discretization_bins: bins of crosses, hashes and float ranges named by string.

    `adapt(data)` learns vocabularies and statistics from a dict of arrays or from batches of such dicts. Calls take a
    dict of columns, or of single values; `get_inputs()` and `get_encoded_features()` begin a Functional model.

    >>> space = FeatureSpace({"size": "float_rescaled", "kind": "string_categorical"})
    >>> space.adapt({"size": [1.0, 2.0], "kind": ["a", "b"]})
    >>> space({"size": [1.0, 2.0], "kind": ["b", "?"]}).shape
    (2, 4)
    """

    def __init__(
        self,
        features: Mapping[str, Any],
        output_mode: str = "concat",
        crosses: Sequence[Any] | None = None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not features:
            raise ArgumentError("The `features` argument cannot be None or empty.")
        self.crossing_dim, self.hashing_dim = crossing_dim, hashing_dim
        self.num_discretization_bins = num_discretization_bins
        self.output_mode = _checked("output_mode", output_mode, ("dict", "concat"))
        self.features = {name: self._feature(name, given) for name, given in features.items()}
        self.crosses = [self._cross(given) for given in crosses or ()]
        self.preprocessors = {name: feature.preprocessor for name, feature in self.features.items()}
        self.crossers = {c.name: layers.HashedCrossing(c.crossing_dim, name=c.name) for c in self.crosses}
        self.one_hot_encoders: dict[str, Any] = {}
        self.concat = layers.Concatenate(axis=-1)
        self._columns = {n: layers.Input((1,), dtype=f.dtype, name=n) for n, f in self.features.items()}
        self._encoded: Any = None  # of `_columns`, once the features are known

    # kinds of features ----------------------------------------------------------------------------

    @classmethod
    def cross(cls, feature_names, crossing_dim, output_mode="one_hot") -> Cross:
        """The combination of several features in so many bins."""
        return Cross(feature_names, crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype, preprocessor, output_mode) -> Feature:
        """A column prepared by any layer."""
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name=None) -> Feature:
        """Numbers as they are."""
        return Feature("float32", layers.Identity(dtype="float32", name=_layer_name(name, "float")), "float")

    @classmethod
    def float_rescaled(cls, scale=1.0, offset=0.0, name=None) -> Feature:
        """Numbers by a scale and an offset."""
        layer = layers.Rescaling(scale, offset, name=_layer_name(name, "float_rescaled"))
        return Feature("float32", layer, "float")

    @classmethod
    def float_normalized(cls, name=None) -> Feature:
        """Numbers less their mean, over their deviation."""
        return Feature("float32", layers.Normalization(name=_layer_name(name, "float_normalized")), "float")

    @classmethod
    def float_discretized(cls, num_bins, bin_boundaries=None, output_mode="one_hot", name=None) -> Feature:
        """The range a number falls into: `num_bins` ranges of equal weight, or those between boundaries."""
        named = {"name": _layer_name(name, "float_discretized")}
        layer = layers.Discretization(num_bins=num_bins, bin_boundaries=bin_boundaries, **named)
        return Feature("float32", layer, output_mode)

    @classmethod
    def integer_categorical(cls, max_tokens=None, num_oov_indices=1, output_mode="one_hot", name=None) -> Feature:
        """Integers by their place in a vocabulary."""
        named = {"name": _layer_name(name, "integer_categorical")}
        layer = layers.IntegerLookup(max_tokens=max_tokens, num_oov_indices=num_oov_indices, **named)
        return Feature("int32", layer, output_mode)

    @classmethod
    def string_categorical(cls, max_tokens=None, num_oov_indices=1, output_mode="one_hot", name=None) -> Feature:
        """Strings by their place in a vocabulary."""
        named = {"name": _layer_name(name, "string_categorical")}
        layer = layers.StringLookup(max_tokens=max_tokens, num_oov_indices=num_oov_indices, **named)
        return Feature("string", layer, output_mode)

    @classmethod
    def string_hashed(cls, num_bins, output_mode="one_hot", name=None) -> Feature:
        """The bin of a string's hash."""
        return Feature("string", layers.Hashing(num_bins, name=_layer_name(name, "string_hashed")), output_mode)

    @classmethod
    def integer_hashed(cls, num_bins, output_mode="one_hot", name=None) -> Feature:
        """The bin of an integer's hash."""
        return Feature("int32", layers.Hashing(num_bins, name=_layer_name(name, "integer_hashed")), output_mode)

    def _feature(self, name: str, given: Any) -> Feature:
        if isinstance(given, dict):
            given = deserialize_keras_object(given)
        if isinstance(given, Feature):
            return given
        more = {
            "float_discretized": (self.num_discretization_bins,),
            "integer_hashed": (self.hashing_dim,),
            "string_hashed": (self.hashing_dim,),
        }
        plain = ("float", "float_normalized", "float_rescaled", "integer_categorical", "string_categorical")
        if given not in (*plain, *more):
            raise ArgumentError(
                f"Invalid feature type: {given} (of feature {name!r}). Expected one of {(*plain, *more)}"
            )
        return getattr(self, given)(*more.get(given, ()), name=name)

    def _cross(self, given: Any) -> Cross:
        if isinstance(given, dict):
            given = deserialize_keras_object(given)
        if not isinstance(given, Cross):
            if not self.crossing_dim:
                raise ArgumentError(
                    "When specifying `crosses`, the argument `crossing_dim` (dimensionality of the crossing space) "
                    "should be specified as well."
                )
            given = Cross(given, self.crossing_dim)
        if not set(given.feature_names) <= set(self.features):
            raise ArgumentError(
                "All features referenced in the `crosses` argument should be present in the `features` dict. Received "
                f"unknown features: {given.feature_names}"
            )
        return given

    # learning -------------------------------------------------------------------------------------

    def adapt(self, dataset) -> None:
        """Learn from a dict of columns, or from batches (or single rows) of such dicts."""
        if not isinstance(dataset, Mapping):
            dataset = _joined(dataset)
        columns = {name: self._column(dataset, name) for name in self._learning()}
        for name, column in columns.items():
            self.preprocessors[name].adapt(column)
        self._encoded = None
        self.one_hot_encoders = {}
        self._encode_columns()

    def _column(self, data: Mapping[str, Any], name: str) -> np.ndarray:
        if name not in data:
            raise ArgumentError(
                f"FeatureSpace {self.name!r}: feature {name!r} is missing from the data: {sorted(data)}"
            )
        return _as_column(data[name])

    def _learning(self) -> list[str]:
        """Features whose layers learn, and have not been told."""

        def is_told(layer: Any) -> bool:
            if isinstance(layer, layers.Normalization):
                return layer.input_mean is not None
            return not hasattr(layer, "adapt")

        return [name for name, layer in self.preprocessors.items() if not is_told(layer)]

    def _encode_columns(self) -> Any:
        """The encoded features as symbolic tensors; makes the encoders."""
        if self._encoded is None:
            self._encoded = self._encode(self._columns)
            self.built = True
        return self._encoded

    # use ------------------------------------------------------------------------------------------

    def get_inputs(self) -> dict[str, KerasTensor]:
        """The columns as inputs of a Functional model."""
        self._check_adapted()
        return self._columns

    def get_encoded_features(self) -> Any:
        """What becomes of `get_inputs()`."""
        self._check_adapted()
        return self._encode_columns()

    def __call__(self, data):
        self._check_adapted()
        if not isinstance(data, Mapping):
            raise ArgumentError(f"A FeatureSpace can only be called with a dict. Received: data={data} ({type(data)})")
        if set(data) != set(self.features):
            raise ArgumentError(
                f"FeatureSpace {self.name!r}: expected the features {sorted(self.features)}, received {sorted(data)}"
            )
        self._encode_columns()
        is_row = all(np.ndim(column) == 0 for column in data.values())
        found = self._encode({name: _as_column(column) for name, column in data.items()})
        return tree.map_structure(lambda t: as_tensor(np.asarray(t)[0]), found) if is_row else found

    def _check_adapted(self) -> None:
        if not self.built and self._learning():
            raise ArgumentError("You need to call `.adapt(dataset)` on the FeatureSpace before you can start using it.")

    def _encode(self, columns: Mapping[str, Any]) -> Any:
        prepared = {name: self.preprocessors[name](column) for name, column in columns.items()}
        crossed = {c.name: self.crossers[c.name]([prepared[n] for n in c.feature_names]) for c in self.crosses}
        modes = {name: spec.output_mode for name, spec in self.features.items()}
        modes |= {cross.name: cross.output_mode for cross in self.crosses}
        values = {name: group[name] for group in (prepared, crossed) for name in sorted(group)}
        found = {n: self._one_hot(n, v) if modes[n] == "one_hot" else v for n, v in values.items()}
        if self.output_mode == "dict":
            return found
        for name, value in found.items():
            if not str(value.dtype).startswith(("float", "bfloat")):
                raise ArgumentError(
                    f"Cannot concatenate features because feature '{name}' has not been encoded (it has dtype "
                    f"{value.dtype}). Consider using `output_mode='dict'`."
                )
        return self.concat([*found.values()]) if len(found) > 1 else next(iter(found.values()))

    def _one_hot(self, name: str, value: Any) -> Any:
        if name not in self.one_hot_encoders:
            self.one_hot_encoders[name] = layers.CategoryEncoding(self._size_of(name, value), output_mode="multi_hot")
        return self.one_hot_encoders[name](value)

    def _size_of(self, name: str, value: Any) -> int:
        """How many values a feature has."""
        layer = self.preprocessors.get(name) or self.crossers[name]
        if not str(value.dtype).startswith("int"):
            raise ArgumentError(
                f"Feature '{name}' has `output_mode='one_hot'`. Thus its preprocessor should return an integer dtype. "
                f"Instead it returns a {value.dtype} dtype."
            )
        if isinstance(layer, layers.IntegerLookup | layers.StringLookup):
            return layer.vocabulary_size()
        if isinstance(layer, layers.CategoryEncoding):
            return layer.num_tokens
        if isinstance(layer, layers.Discretization) and layer.bin_boundaries:
            return len(layer.bin_boundaries) + 1
        if isinstance(layer, _WITH_BINS):
            return layer.num_bins
        raise ArgumentError(
            f"Feature '{name}' has `output_mode='one_hot'`. However it isn't a standard feature and the dimensionality "
            "of its output space is not known, thus it cannot be one-hot encoded. Try using `output_mode='int'`."
        )

    # files ----------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        return {
            "features": serialize_keras_object(self.features),
            "output_mode": self.output_mode,
            "crosses": serialize_keras_object(self.crosses),
            "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim,
            "num_discretization_bins": self.num_discretization_bins,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)

    def get_build_config(self) -> dict[str, Any]:
        return {name: layer.get_build_config() for name, layer in self.preprocessors.items()}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Make the weights that a file holds."""
        for name, shape in config.items():
            if shape and not self.preprocessors[name].built:
                self.preprocessors[name].build_from_config(shape)
        self._encode_columns()


def _checked(what: str, given: str, allowed: tuple[str, ...]) -> str:
    if given not in allowed:
        raise ArgumentError(f"Invalid value for argument `{what}`. Expected one of {allowed}. Received: {what}={given}")
    return given


def _joined(batches: Any) -> dict[str, np.ndarray]:
    """The columns of all batches, or rows, of a dataset."""
    parts: dict[str, list] = {}
    for batch in batches if isinstance(batches, Iterable) or hasattr(batches, "__getitem__") else ():
        if not isinstance(batch, Mapping):
            parts.clear()
            break
        for name, column in batch.items():
            parts.setdefault(name, []).append(_as_column(column))
    if not parts:
        raise ArgumentError(
            "`adapt()` can only be called on a dict of arrays/lists, or on batches (or rows) of such dicts. "
            f"Received instead: {batches} (of type {type(batches)})"
        )
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def _layer_name(name: str | None, kind: str) -> str:
    return f"{name or auto_name(kind)}_preprocessor"


def _as_column(values: Any) -> Any:
    """One value a row: shape (rows, 1)."""
    if isinstance(values, KerasTensor):
        return values
    array = np.asarray(values)
    return array.reshape(-1, 1) if array.ndim < 2 else array
