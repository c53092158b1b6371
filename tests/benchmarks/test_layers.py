"""Every layer has a row, and the rows run."""

import csv
import inspect
import pathlib

import pytest

from benchmarks import layers
from benchmarks.layer_cases import BOTH, CASES, FORWARD, NO_ROW, REASONS, ROWS, TRAIN, Made, Row, arrays
from benchmarks.layers_keras import create, ways
from benchmarks.peers import OURS
from kcompile import keras

SURFACE = pathlib.Path(__file__).parents[1] / "api_surface.tsv"
CHEAP = ("RepeatVector forward", "SpatialDropout3D train")


def listed() -> dict[type, str]:
    """The layer classes of tiers A and B, aliases once."""
    with SURFACE.open() as file:
        names = [r["name"] for r in csv.DictReader(file, delimiter="\t") if r["area"] == "layer" and r["tier"] in "AB"]
    found: dict[type, str] = {}
    for name in names:
        thing = getattr(keras.layers, name)
        if inspect.isclass(thing) and name not in NO_ROW:
            found.setdefault(thing, name)
    return found


def test_every_layer_has_a_row():
    rows = {getattr(keras.layers, case.layer) for case in CASES}
    assert rows == set(listed())
    assert not any(getattr(keras.layers, case.layer).__name__ in NO_ROW for case in CASES)


def test_rows_have_names_of_their_own_and_reasons_have_rows():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) and set(REASONS) <= set(names)
    assert {row.mode for row in ROWS} == set(BOTH)


def test_layers_are_made_from_plain_data():
    case = next(c for c in CASES if c.layer == "StackedRNNCells")
    layer = create(keras, case.made(ours=True))
    assert type(layer) is keras.layers.RNN and len(layer.cell.cells) == 2
    renamed = next(c for c in CASES if c.layer == "CuDNNGRU")
    assert renamed.made(ours=True).layer == "CuDNNGRU" and renamed.made(ours=False) == Made("GRU", {"units": 64})
    assert next(c for c in CASES if c.layer == "LocallyConnected1D").made(ours=False) is None


def test_inputs_are_the_same_every_time():
    for layer in ("TextVectorization", "Embedding", "Add"):
        case = next(c for c in CASES if c.layer == layer)
        for one, other, shape in zip(arrays(case), arrays(case), case.shapes, strict=True):
            assert one.shape == shape and (one == other).all()


@pytest.mark.parametrize("name", CHEAP)
def test_a_row_runs(name):
    row = next(r for r in ROWS if r.name == name)
    (run,) = ways(OURS, row, 1).values()
    assert run(2) > 0


def test_what_is_slow_is_said():
    times = {OURS: [2.0, 2.0], "torch": [1.0, 1.0], "keras-jax": [4.0, 4.0]}
    explained, unexplained = layers.summary({"Identity forward": times, "Dense forward": times})
    assert explained == [f"Identity forward: 0.50 of torch; {REASONS['Identity forward']}"]
    assert unexplained == ["Dense forward: 0.50 of torch; no reason known"]
    assert layers.summary({"Dense forward": {OURS: [1.0], "torch": [1.0]}, "Add forward": {}}) == (
        [],
        ["Add forward: no time"],
    )
    assert "x0.50" in layers.geometric({"Dense forward": times})
    row = Row(CASES[0], FORWARD)
    assert "x2.00 (2.00-2.00)" in layers.line(row, times, ["keras-jax"]) and layers.line(row, {}, ["torch"]).endswith(
        "-"
    )


def test_rows_are_chosen_and_kept(tmp_path):
    assert {r.mode for r in layers.chosen("Dense,Add", quick=False)} == {FORWARD, TRAIN}
    assert 0 < len(layers.chosen("", quick=True)) < 20
    path = tmp_path / "layers.json"
    layers.keep(path, 2, {"a": {OURS: [1.0]}})
    layers.keep(path, 2, {"b": {OURS: [2.0]}})
    assert path.read_text().count(OURS) == 2
