"""Damaged and hostile files: one clear error that names the file; no code runs, nothing outside is touched."""

import base64
import io
import json
import marshal
import zipfile

import h5py
import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import KcompileError, SavedFileError, ShapeError, UnknownNameError
from tests.keras.saving.models import mlp


@pytest.fixture
def saved(tmp_path):
    model, _, _ = mlp(keras)
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    return tmp_path


def parts(path):
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


def pack(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def with_config(path, change):
    members = parts(path)
    config = json.loads(members["config.json"])
    change(config)
    pack(path, {**members, "config.json": json.dumps(config)})
    return path


def with_weights(path, change):
    members = parts(path)
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    pack(path, {**members, "model.weights.h5": buffer.getvalue()})
    return path


def refused(path, *words, kind=SavedFileError):
    with pytest.raises(kind) as caught:
        keras.models.load_model(path)
    assert path.name in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.98])
def test_truncated(saved, name, share):
    path = saved / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_flipped_bytes(saved, name):
    """Whatever byte is damaged: the model loads, or there is an error of ours."""
    path = saved / name
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    errors = 0
    for position in rng.integers(0, len(data), 60):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        try:
            keras.models.load_model(path, compile=False)
        except KcompileError as error:
            errors += 1
            assert name in str(error)
    assert errors


def test_missing_and_other_files(tmp_path):
    with pytest.raises(SavedFileError, match=r"File not found.*none\.keras"):
        keras.models.load_model(tmp_path / "none.keras")
    (tmp_path / "text.keras").write_text("hello, this is no model")
    refused(tmp_path / "text.keras", "neither")
    pack(tmp_path / "other.keras", {"readme.txt": "x"})
    refused(tmp_path / "other.keras", "config.json is missing")


@pytest.mark.parametrize("member", ["../evil.txt", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil"])
def test_paths_out_of_the_archive(saved, member):
    path = saved / "m.keras"
    pack(path, {**parts(path), member: "x"})
    refused(path, "would leave the archive")
    assert not list(saved.parent.glob("evil*"))


def test_bombs(saved, monkeypatch):
    path = saved / "m.keras"
    pack(path, {**parts(path), "zeros": b"\0" * (1 << 24)})
    assert path.stat().st_size < 1 << 20
    keras.models.load_model(path)  # an honest ratio of deflate

    def huge(file):
        group = file["layers/dense/vars"]
        del group["0"]
        group.create_dataset("0", shape=(1 << 40,), dtype="f4")  # claims 4 TiB, holds nothing

    refused(with_weights(path, huge), "first", "expected shape (4, 5)", kind=ShapeError)

    def huge_optimizer(file):
        group = file["optimizer/vars"]
        del group["1"]
        group.create_dataset("1", shape=(1 << 40,), dtype="f4")

    path.unlink()
    mlp(keras)[0].save(path)
    refused(with_weights(path, huge_optimizer), "claims")


def test_nested_beyond_reason(saved):
    path = saved / "m.keras"
    pack(path, {**parts(path), "config.json": '{"a":' * 100_000 + "1" + "}" * 100_000})
    refused(path)
    pack(path, {**parts(path), "config.json": '{"a":' * 500 + "1" + "}" * 500})
    refused(path, "nested")


@pytest.mark.parametrize("link", ["external", "soft"])
def test_links_are_not_followed(saved, link):
    with h5py.File(saved / "secret.h5", "w") as file:
        file.create_dataset("numbers", data=np.ones((4, 5), "f4"))

    def change(file):
        group = file["layers/dense/vars"]
        del group["0"]
        target = h5py.ExternalLink(str(saved / "secret.h5"), "numbers") if link == "external" else None
        group["0"] = target or h5py.SoftLink("/layers/dense_1/vars/0")

    refused(with_weights(saved / "m.keras", change), "link")


def test_data_in_other_files(saved):
    (saved / "secret.bin").write_bytes(b"\1" * 80)

    def change(file):
        group = file["layers/dense/vars"]
        del group["0"]
        group.create_dataset("0", shape=(4, 5), dtype="f4", external=[(str(saved / "secret.bin"), 0, 80)])

    refused(with_weights(saved / "m.keras", change), "another file")


def test_objects_are_no_numbers(saved):
    def change(file):
        group = file["layers/dense/vars"]
        del group["0"]
        group.create_dataset("0", data=np.full((4, 5), "x", dtype=object), dtype=h5py.string_dtype())

    refused(with_weights(saved / "m.keras", change), "expected numbers")


def test_shapes_name_layer_expected_received(saved):
    def change(file):
        group = file["layers/dense_1/vars"]
        del group["1"]
        group["1"] = np.zeros(3, "f4")

    refused(with_weights(saved / "m.keras", change), "second", "bias", "(2,)", "(3,)", kind=ShapeError)


def test_nothing_is_set_when_something_does_not_fit(saved):
    model, _, _ = mlp(keras)
    before = model.get_weights()

    def change(file):
        group = file["layers/dense_1/vars"]
        del group["1"]
        group["1"] = np.zeros(3, "f4")

    with pytest.raises(ShapeError):
        model.load_weights(with_weights(saved / "m.keras", change))
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)


ran = []


def payload():
    code = marshal.dumps((lambda x: ran.append(x) or x).__code__)
    return base64.b64encode(code).decode()


@pytest.mark.parametrize("safe_mode", [True, False])
@pytest.mark.parametrize("shape", ["keras3", "keras2"])
def test_code_is_never_run(saved, safe_mode, shape):
    if shape == "keras3":
        code = {"class_name": "__lambda__", "config": {"code": payload(), "defaults": None, "closure": None}}
    else:
        code = [payload(), None, None]
    entry = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "double", "trainable": True, "dtype": "float32", "function": code, "arguments": {}},
        "registered_name": None,
    }
    if shape == "keras2":
        entry["config"] |= {"function_type": "lambda", "module": "os", "output_shape": None}
    path = with_config(saved / "m.keras", lambda c: c["config"]["layers"].insert(1, entry))
    with pytest.raises(SavedFileError, match=r"m\.keras.*Lambda layer 'double' holds Python code.*never run"):
        keras.models.load_model(path, safe_mode=safe_mode)
    assert not ran
    model = keras.models.load_model(path, custom_objects={"double": lambda x: x * 2}, compile=False)
    assert model.layers[0].name == "double"
    assert not ran


@pytest.mark.parametrize(
    "module, name", [("os", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("kcompile.flags", "scoped")]
)
def test_names_are_looked_up_only_among_the_registered(saved, module, name):
    def as_layer(config):
        config["config"]["layers"][1].update(module=module, class_name=name, registered_name=name)

    refused(with_config(saved / "m.keras", as_layer), name, kind=UnknownNameError)

    def as_function(config):
        function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
        config["compile_config"]["loss"] = function

    mlp(keras)[0].save(saved / "m.keras")
    refused(with_config(saved / "m.keras", as_function), name, kind=UnknownNameError)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.clear(),
        lambda c: c.update(config=None),
        lambda c: c.update(class_name="Dense"),
        lambda c: c["config"].update(layers=3),
        lambda c: c["config"]["layers"][1]["config"].pop("units"),
        lambda c: c["config"]["layers"][1]["config"].update(units="many"),
        lambda c: c["config"]["layers"][1]["config"].update(unknown_argument=1),
        lambda c: c["config"]["layers"][0]["config"].update(batch_shape=[None, -3]),
        lambda c: c["compile_config"].update(loss="no_such_loss"),
        lambda c: c["compile_config"].update(surprise=1),
        lambda c: c["compile_config"]["optimizer"].update(config={"learning_rate": "fast"}),
    ],
)
def test_wrong_configs(saved, change):
    refused(with_config(saved / "m.keras", change), kind=KcompileError)
