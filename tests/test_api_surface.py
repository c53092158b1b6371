"""The public names: every one that tests/api_surface.tsv lists is there, with Keras's parameters.

The table holds names that the project's documents ask for (tier A) and those of Keras 3 and idioms of
tf.keras 2 that users expect (tier B), each with its signature. `python -m tests.test_api_surface` prints what is
missing and why. The lists below must shrink: a name in them that exists, or fits, fails the test.
"""

from __future__ import annotations

import csv
import inspect
import pathlib
import re
from typing import Any

import pytest

from kcompile import keras

TABLE = pathlib.Path(__file__).with_name("api_surface.tsv")

# where the names of an area live, first found first taken; `Name.member` is looked up step by step
MODULES = {
    "top-level": ("",),
    "models": ("models",),
    "model-member": ("models", ""),
    "layer": ("layers",),
    "layer-member": ("layers",),
    "activation": ("activations",),
    "loss": ("losses",),
    "loss-member": ("losses",),
    "metric": ("metrics",),
    "metric-member": ("metrics",),
    "optimizer": ("optimizers",),
    "optimizer-member": ("optimizers",),
    "schedule": ("optimizers.schedules",),
    "initializer": ("initializers",),
    "regularizer": ("regularizers",),
    "constraint": ("constraints",),
    "callback": ("callbacks",),
    "callback-hook": ("callbacks",),
    "dataset": ("datasets",),
    "application": ("applications",),
    "preprocessing": ("preprocessing",),
    "utils": ("utils",),
    "saving": ("saving",),
    "random": ("random",),
    "tree": ("tree",),
    "backend": ("backend",),
    "config": ("config",),
    "dtype": ("mixed_precision", "config", "optimizers", "dtype_policies"),
    "distribution": ("distribution",),
    "visualization": ("visualization",),
    "export": ("export",),
    "wrapper": ("wrappers",),
    "legacy-backend": ("backend",),
    "ops": ("ops",),
}
EVERYWHERE = tuple(dict.fromkeys(m for modules in MODULES.values() for m in modules))

# members that an object has, not its class
EXAMPLES = {
    "DTypePolicy": lambda: keras.DTypePolicy("float32"),
    "KerasTensor": lambda: keras.KerasTensor((None, 2)),
    "Layer": lambda: keras.layers.Layer(),
    "Model": lambda: keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]),
    "PyDataset": lambda: keras.utils.PyDataset(),
    "Variable": lambda: keras.Variable([1.0]),
}


def named(area: str, names: str, reason: str) -> dict[str, str]:
    return {f"{area} {name}": reason for name in names.split()}


STEP = "a step is traced and compiled when its first batch comes: there is no Python function to make before"
MISSING = {
    **named("model-member", "Model.make_train_function Model.make_test_function Model.make_predict_function", STEP),
    **named("top-level", "device", "there is one device, the CPU"),
    **named("top-level", "Function Operation StatelessScope", "parts of Keras's own tracing; kcompile's is another"),
    **named("parameter", "to_categorical.y", "called x, as in Keras 3"),
    **named("export", "ExportArchive", "a model is exported as a shared library"),
}
SEED = "as the project's documents have it"
DIFFERS = {
    **named("model-member", "Model.compile", "tf.keras 2's order of arguments; all names are Keras 3's"),
    **named("parameter", "Model.compile.run_eagerly Model.compile.steps_per_execution", "Keras 3's default"),
    **named("parameter", "Model.fit.verbose Model.evaluate.verbose Model.predict.verbose", "Keras 3's default"),
    **named("model-member", "Model.save_weights", "weights are one file"),
    **named("model-member", "Model.train_step Model.test_step Model.predict_step", "(data), as on TensorFlow"),
    **named("parameter", "TensorBoard.profile_batch", "nothing is profiled unless asked"),
    **named("regularizer", "l1_l2", SEED),
    **named("loss", "Huber", "the default name is the function's"),
    **named("metric-member", "Metric.add_variable Metric.add_weight", "more arguments have a default"),
    **named("initializer", "normal uniform", "Keras 3's class of that name"),
    **named("class-member", "KerasTensor.reshape", "the parameter is called shape"),
    **named("utils", "custom_object_scope CustomObjectScope", "takes several dictionaries"),
    **named("saving", "custom_object_scope CustomObjectScope", "takes several dictionaries"),
    **named("utils", "Progbar", "wider bar"),
}


def rows() -> list[dict[str, str]]:
    with TABLE.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def key(row: dict[str, str]) -> str:
    return f"{row['area']} {row['name']}"


def walk(start: Any, path: str) -> Any:
    """`path` step by step; None where a step is missing."""
    for step in path.split(".") if path else ():
        try:
            start = getattr(start, step)
        except AttributeError:
            return None
    return start


def find(row: dict[str, str]) -> Any:
    """The object a row names, or None."""
    name = row["name"].removeprefix("K.") if row["area"] == "legacy-backend" else row["name"]
    for module in MODULES.get(row["area"], EVERYWHERE):
        owner = walk(keras, module)
        found = None if owner is None else walk(owner, name)
        if found is not None:
            return found
    return _of_example(row["name"])


def _of_example(name: str) -> Any:
    """A member of an object that has just been made."""
    owner, _, member = name.partition(".")
    if not member or owner not in EXAMPLES:
        return None
    example = EXAMPLES[owner]()
    return (getattr(example, member),) if hasattr(example, member) else None  # a value may be None


def parts(signature: str) -> list[str] | None:
    """`name=default` of each parameter, annotations left out; None for what is no list of parameters."""
    if not re.fullmatch(r"\(.*\)", signature):
        return None
    depth, text, found = 0, "", []
    for c in signature[1:-1] + ",":
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            found.append(text.strip())
            text = ""
        else:
            text += c
    return [re.sub(r"\s*:\s*[^=]+?(\s*=|$)", r"\1", p).replace(" ", "") for p in found if p.strip()]


def own_parts(found: Any) -> list[str] | None:
    """The same of an object of ours; None for what has no signature."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return None
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "self"]
    return parts(str(signature.replace(parameters=plain, return_annotation=signature.empty)))


def difference(wanted: list[str], ours: list[str]) -> str | None:
    """What of Keras's parameters ours does not take, or takes with another default or in another place."""
    ours = [p for p in ours if p not in ("/", "*")]
    stars = [p for p in wanted if p.startswith("*")]
    wanted = [p for p in wanted if p not in ("/", "*") and not p.startswith("*")]
    open_ended = any(p.startswith("**") for p in ours)
    names = [p.split("=")[0] for p in ours]
    place = -1
    for p in wanted:
        name = p.split("=")[0]
        if name not in names:
            if open_ended and "=" in p:
                continue  # goes into **kwargs
            return f"no parameter {name!r}"
        if names.index(name) < place:
            return f"{name!r} stands elsewhere"
        place = names.index(name)
        if p != ours[place] and not _same_default(p, ours[place]):
            return f"{ours[place]} instead of {p}"
    if any(s.startswith("**") for s in stars) and not open_ended and not wanted and not names:
        return "takes no keywords"
    return None


def _same_default(a: str, b: str) -> bool:
    def value(text: str) -> str:
        return text.partition("=")[2].replace('"', "'")

    try:
        return float(value(a)) == float(value(b))
    except ValueError:
        return value(a) == value(b)


def problem(row: dict[str, str]) -> tuple[str, str] | None:
    """("missing" | "differs", what) of a row, or None if all is well."""
    if row["area"] == "parameter":
        return _parameter_problem(row)
    if row["signature"].startswith("string identifier"):
        return None if keras.metrics.get(row["name"]) is not None else ("missing", "no such identifier")
    found = find(row)
    if found is None:
        return "missing", "not there"
    wanted, ours = parts(row["signature"]), own_parts(found)
    if wanted is None or ours is None or "args" in row["signature"]:
        return None  # a property, a constant, or `*args, **kwargs`
    what = difference(wanted, ours)
    return ("differs", what) if what else None


def _parameter_problem(row: dict[str, str]) -> tuple[str, str] | None:
    """`Owner.parameter` with `default value`."""
    owner, _, name = row["name"].rpartition(".")
    if owner == "first-layer":  # what any layer takes when it stands first
        owner = "layers.Layer"
    found = next((f for m in EVERYWHERE if (f := walk(walk(keras, m), owner)) is not None), None)
    if found is None:
        return "missing", f"no {owner}"
    ours = own_parts(found) or []
    mine = next((p for p in ours if p.split("=")[0] == name), None)
    if mine is None:
        return None if any(p.startswith("**") for p in ours) else ("missing", "no such parameter")
    # some defaults carry a note: `None (32)`, `True in the seed (...)`
    default = re.sub(r"(\w) ?(\(| in ).*", r"\1", row["signature"].removeprefix("default ")).replace(" ", "")
    if row["signature"].startswith("default ") and not _same_default(f"{name}={default}", mine):
        return "differs", f"{mine} instead of {default}"
    return None


ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=key)
def test_name(row):
    found = problem(row)
    listed = MISSING.get(key(row)) or DIFFERS.get(key(row))
    if listed:
        assert found is not None, f"{key(row)} is there: take it off the list"
        return
    assert found is None, f"{key(row)} {row['signature']}: {found}"


def test_lists_name_rows_of_the_table():
    known = {key(row) for row in ROWS}
    assert {*MISSING, *DIFFERS} <= known


def report() -> str:
    """Present, missing and different names per area, with reasons."""
    lines, areas = [], dict.fromkeys(row["area"] for row in ROWS)
    found = {key(row): problem(row) for row in ROWS}
    for area in areas:
        mine = [row for row in ROWS if row["area"] == area]
        bad = [row for row in mine if found[key(row)]]
        lines.append(f"{area}: {len(mine) - len(bad)} of {len(mine)}")
        for row in bad:
            how, what = found[key(row)]
            reason = MISSING.get(key(row)) or DIFFERS.get(key(row)) or "NO REASON GIVEN"
            lines.append(f"  {row['tier']} {how} {row['name']}: {what} ({reason})")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
