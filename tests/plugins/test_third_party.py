"""Packages installed on their own, as a third party ships them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

USE = """
import json, sys
import numpy as np
from kcompile import keras
from kcompile.export.load import ExportedModel
from kcompile.keras import layers

folder = sys.argv[1]
draw = np.random.default_rng(0)
x = draw.standard_normal((256, 6)).astype("float32")
y = (x[:, :1] + x[:, 1:2] * x[:, 2:3] > 0).astype("float32")
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((6,)), layers.Dense(16), layers.Swish(name="swish"), layers.Squareplus(), layers.Dense(1, "sigmoid"),
])
model.compile(optimizer="SignMomentum", loss="focal", metrics=["accuracy"], jit=True)
history = model.fit(x, y, batch_size=32, epochs=15, verbose=0).history["loss"]
before = model.predict(x, verbose=0)
results = {"first": history[0], "last": history[-1], "beta": float(model.get_layer("swish").beta.numpy())}
for name in ("m.keras", "m.h5"):
    model.save(f"{folder}/{name}")
    again = keras.models.load_model(f"{folder}/{name}")
    results[name] = float(np.abs(again.predict(x, verbose=0) - before).max())
    results[name + ".optimizer"] = type(again.optimizer).__name__
model.export(f"{folder}/libm.so")
results["export"] = float(np.abs(ExportedModel(f"{folder}/libm.so")(x) - before).max())
eager = keras.models.clone_model(model)
eager.set_weights(model.get_weights())
eager.compile(loss="focal", optimizer="SignMomentum", jit=False)
results["interpreted"] = float(np.abs(eager.predict(x, verbose=0) - before).max())
print(json.dumps(results))
"""

WARN = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    from kcompile import keras
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 3), "float32"), np.ones((8, 2), "float32"), verbose=0)
    for _ in range(2):  # a name no built-in has: the plugins are asked, once
        try:
            keras.layers.Swish
        except AttributeError as error:
            print("error:", error)
print("\\n".join(str(w.message) for w in caught))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function: packages -> environment of a process that has them installed beside kcompile."""

    def install(*names: str) -> dict[str, str]:
        site = tmp_path_factory.mktemp("site")
        sources = []
        for name in names:  # pip builds in the source folder, which the test must not touch
            copy = tmp_path_factory.mktemp("source") / name
            subprocess.run(["cp", "-r", ROOT / "plugins" / name, copy], check=True)
            sources.append(str(copy))
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *sources], check=True)
        return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}

    return install


def test_layer_loss_optimizer_and_primitive(installed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)], env=installed("kcompile-extras"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["last"] < 0.85 * results["first"]
    assert results["beta"] != 1.0
    assert results["m.keras"] == results["m.h5"] == results["export"] == 0.0
    assert results["m.keras.optimizer"] == results["m.h5.optimizer"] == "SignMomentum"
    assert results["interpreted"] < 1e-5


def test_a_broken_plugin_costs_one_warning(installed):
    done = subprocess.run(
        [sys.executable, "-c", WARN], env=installed("kcompile-broken"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    about = [line for line in done.stdout.splitlines() if "broken" in line]
    assert done.stdout.count("error:") == 2
    assert len(about) == 1
    assert "kcompile-broken" in about[0] and "this plugin is broken on purpose" in about[0]
