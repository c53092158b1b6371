"""One-call checks for the authors of pieces: ours and plugins'.

`check_layer(Swish, {}, input_shape=(2, 5))` builds the layer, compares inferred with real shapes, saves
its config and reloads it, compares eager, symbolic, interpreted and compiled results, and checks the
gradient against central differences in float64.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kcompile.autodiff import grad
from kcompile.keras import dtype_policies, ops
from kcompile.keras.layers import Input, Layer
from kcompile.keras.models import Model
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object
from kcompile.keras.tracing import KerasTensor, trace, tree
from kcompile.runtime.interpreted import InterpretedProgram

TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}  # float32, sums of up to a few hundred terms
STEP = 1e-5  # of central differences in float64: errors of about STEP² and 1e-16 / STEP
GRADIENT_TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}


def check_layer(
    cls: type[Layer],
    init_kwargs: Mapping[str, Any] | None = None,
    *,
    input_shape: Any = None,
    input_data: Any = None,
    input_dtype: str = "float32",
    expected_output_shape: tuple | None = None,
    expected_num_trainable_weights: int | None = None,
    expected_num_non_trainable_weights: int | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
    training: bool | None = None,
    gradient: bool = True,
    compiled: bool = True,
    seed: int = 0,
) -> Layer:
    """Check everything a layer promises; returns the built layer.

    Args:
        input_shape: with the batch axis; a list of shapes for layers of several inputs.
        input_data: given instead of random numbers.
        gradient: compare derivatives with central differences (leave out where there are none).
        compiled: compile the layer too.

    Raises: AssertionError that says which promise broke.
    """
    rng = np.random.default_rng(seed)
    kwargs, call_kwargs = dict(init_kwargs or {}), dict(call_kwargs or {})
    if training is not None:
        call_kwargs["training"] = training
    x = input_data if input_data is not None else random_inputs(rng, input_shape, input_dtype)

    layer = cls(**kwargs)
    states = [g.state.numpy() for g in layer._seed_generators()]
    eager = layer(x, **call_kwargs)
    for name, wanted, found in (
        ("trainable", expected_num_trainable_weights, layer.trainable_weights),
        ("non-trainable", expected_num_non_trainable_weights, layer.non_trainable_weights),
    ):
        assert wanted is None or len(found) == wanted, f"{len(found)} {name} weights: {found}"
    _check_config(layer, x)
    _check_shapes(layer, x, eager, expected_output_shape)
    _check_model(layer, x, call_kwargs)
    ways = {"interpreted": InterpretedProgram}
    if compiled:
        from kcompile import pipeline  # brings LLVM; not needed otherwise

        ways["compiled"] = pipeline.compile
    for how, run in ways.items():
        _rewind(layer, states)
        _check_traced(layer, x, call_kwargs, run, how)
    if gradient:
        check_gradient(cls, kwargs, x, call_kwargs)
    return layer


def random_inputs(rng: np.random.Generator, shape: Any, dtype: str = "float32") -> Any:
    """Return normal numbers (or small integers) of a shape, or of each shape in a list."""
    if shape and isinstance(shape[0], (list, tuple)):
        return [random_inputs(rng, s, dtype) for s in shape]
    if dtype.startswith(("int", "uint")):
        return rng.integers(0, 4, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _rewind(layer: Layer, states: Sequence[np.ndarray]) -> None:
    """Put the seed generators back to where they were, so that the same numbers are drawn."""
    for generator, state in zip(layer._seed_generators(), states):
        generator.state.assign(state)


def _numbers(structure: Any) -> list[np.ndarray]:
    return [np.asarray(t) for t in tree.flatten(structure)]


def _check_config(layer: Layer, x: Any) -> None:
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config, "the config changes in a round trip through from_config"
    stored = json.loads(json.dumps(serialize_keras_object(layer)))
    loaded = deserialize_keras_object(stored, {type(layer).__name__: type(layer)})
    assert type(loaded) is type(layer), f"reloaded as {type(loaded)}"
    if not loaded.built:
        loaded(x)
    assert [w.shape for w in loaded.weights] == [w.shape for w in layer.weights], "reloaded with other weights"


def _check_shapes(layer: Layer, x: Any, eager: Any, expected: tuple | None) -> None:
    real = [np.shape(t) for t in tree.flatten(eager)]
    if expected is not None:
        assert real == [tuple(expected)], f"output shape {real}, expected {expected}"
    symbolic = infer_like(layer, x)
    for tensor, shape in zip(tree.flatten(symbolic), real, strict=True):
        assert len(tensor.shape) == len(shape), f"inferred shape {tensor.shape}, real {shape}"
        for inferred, size in zip(tensor.shape, shape):
            assert inferred in (None, size), f"inferred shape {tensor.shape}, real {shape}"


def infer_like(layer: Layer, x: Any) -> Any:
    """Return KerasTensors like the outputs for inputs like x with an open batch size."""
    return layer.compute_output_spec(tree.map_structure(_open_batch, x))


def _open_batch(array: Any) -> KerasTensor:
    array = np.asarray(array)
    return KerasTensor((None, *array.shape[1:]), array.dtype)


def _check_model(layer: Layer, x: Any, call_kwargs: Mapping[str, Any]) -> None:
    """In a functional model the layer gives what it gives alone."""
    inputs = tree.map_structure(lambda a: Input(a.shape[1:], dtype=str(a.dtype)), tree.map_structure(np.asarray, x))
    model = Model(inputs, layer(inputs))
    if call_kwargs.get("training"):
        return
    for alone, inside in zip(_numbers(layer(x)), _numbers(model(x)), strict=True):
        np.testing.assert_allclose(inside, alone, **TOLERANCE, err_msg="inside a functional model")


def _check_traced(layer: Layer, x: Any, call_kwargs: Mapping[str, Any], run, how: str) -> None:
    """The traced program agrees with eager results and assignments, for two batch sizes."""
    flat = [np.asarray(a) for a in tree.flatten(x)]
    specs = {f"x{i}": ((None, *a.shape[1:]), a.dtype) for i, a in enumerate(flat)}

    def call(values):
        return layer(tree.pack_sequence_as(x, list(values.values())), **call_kwargs)

    traced = trace(call, specs, name=f"check_{layer.name}")
    program = run(traced.graph)
    for rows in (len(flat[0]), max(1, len(flat[0]) - 1)):
        part = [a[:rows] for a in flat]
        before = [v.numpy() for v in layer.variables]
        eager = _numbers(layer(tree.pack_sequence_as(x, part), **call_kwargs))
        expected = [v.numpy() for v in layer.variables]
        for variable, value in zip(layer.variables, before):
            variable.assign(value)
        given = {f"x{i}": np.ascontiguousarray(a) for i, a in enumerate(part)}
        found = _numbers(traced.pack(program.run(given, traced.arrays())))
        for one, other in zip(found, eager, strict=True):
            np.testing.assert_allclose(one, other, **TOLERANCE, err_msg=f"{how} against eager")
        for variable, value in zip(layer.variables, expected):
            np.testing.assert_allclose(
                np.asarray(variable.numpy(), np.float64), np.asarray(value, np.float64), **TOLERANCE,
                err_msg=f"{how} against eager: {variable.path} afterwards",
            )  # fmt: skip
        for variable, value in zip(layer.variables, before):
            variable.assign(value)


def check_gradient(cls: type[Layer], init_kwargs: Mapping[str, Any], x: Any, call_kwargs: Mapping[str, Any]) -> None:
    """Compare derivatives of a random weighting of the outputs with central differences, in float64."""
    before = dtype_policies.dtype_policy()
    dtype_policies.set_dtype_policy("float64")  # layers inside the layer too
    try:
        _check_gradient(cls(**init_kwargs), x, call_kwargs)
    finally:
        dtype_policies.set_dtype_policy(before)


def _check_gradient(layer: Layer, x: Any, call_kwargs: Mapping[str, Any]) -> None:
    flat = [np.asarray(a) for a in tree.flatten(x)]
    flat = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in flat]
    layer(tree.pack_sequence_as(x, flat), **call_kwargs)
    states = [v.numpy() for v in layer.variables]
    shapes = [np.shape(t) for t in _numbers(layer(tree.pack_sequence_as(x, flat), **call_kwargs))]
    rng = np.random.default_rng(1)
    weightings = [rng.standard_normal(s) for s in shapes]
    _restore(layer, states)

    def weighted(values: Sequence[Any]) -> Any:
        outputs = tree.flatten(layer(tree.pack_sequence_as(x, list(values)), **call_kwargs))
        total = 0.0
        for output, weighting in zip(outputs, weightings):
            total = total + ops.sum(ops.multiply(output, weighting))
        return total

    names = [i for i, a in enumerate(flat) if a.dtype.kind == "f"]
    weights = [w for w in layer.trainable_weights if w.dtype == "float64"]

    def program(values):
        wrt = [values[f"x{i}"] for i in names] + [w.value for w in weights]
        return dict(zip((f"g{n}" for n in range(len(wrt))), grad(weighted(list(values.values())), wrt)))

    traced = trace(program, {f"x{i}": (a.shape, a.dtype) for i, a in enumerate(flat)}, name="gradient")
    found = InterpretedProgram(traced.graph).run({f"x{i}": a for i, a in enumerate(flat)}, traced.arrays())
    _restore(layer, states)
    places = [(f"input {i}", flat[i]) for i in names] + [(w.path, w._array) for w in weights]
    for number, (what, array) in enumerate(places):
        for place in _sampled_places(rng, array.shape):
            before = array[place]
            slopes = []
            for sign in (1, -1):
                array[place] = before + sign * STEP
                slopes.append(float(weighted(flat)))
                array[place] = before
                _restore(layer, states, keep=array, place=place, value=before)
            slope = (slopes[0] - slopes[1]) / (2 * STEP)
            np.testing.assert_allclose(
                found[f"g{number}"][place], slope, **GRADIENT_TOLERANCE, err_msg=f"derivative by {what} at {place}"
            )


def _restore(layer: Layer, states, keep=None, place=None, value=None) -> None:
    for variable, state in zip(layer.variables, states):
        variable.assign(state)
    if keep is not None:
        keep[place] = value


def _sampled_places(rng: np.random.Generator, shape: tuple[int, ...], most: int = 12) -> list[tuple[int, ...]]:
    count = int(np.prod(shape))
    chosen = rng.permutation(count)[:most]
    return [tuple(int(i) for i in np.unravel_index(n, shape)) for n in chosen]
