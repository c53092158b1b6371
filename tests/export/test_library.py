"""Exported libraries: called from C and from Python, equal to the running program to the bit."""

import subprocess

import numpy as np
import pytest

from kcompile import ops, pipeline
from kcompile.errors import ArgumentError, LinkerError, ShapeError
from kcompile.export import linker
from kcompile.export.library import export_library
from kcompile.export.load import ExportedModel
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, f32
from kcompile.ops.contract import einsum, matmul
from kcompile.ops.conv import conv
from kcompile.passes.strips import NAMED_LENGTH

BATCH = dim.symbol("batch")

MAIN_C = """
#include <stdio.h>
#include <stdlib.h>
#include "libnet.h"

int main(void) {
    libnet_model *first, *second;
    if (libnet_create(NULL, 1) != LIBNET_NULL) return 10;
    if (libnet_create(&first, 1) || libnet_create(&second, 2)) return 11;
    for (int64_t batch = 1; batch <= 40; batch += 13) {
        float *x = malloc(sizeof(float) * batch * 108), *y = malloc(sizeof(float) * batch * 5);
        float *z = malloc(sizeof(float) * batch * 5);
        for (int64_t i = 0; i < batch * 108; i++) x[i] = (float)((i * 37) % 101) / 50.0f - 1.0f;
        if (libnet_predict(first, batch, x, y) || libnet_predict(second, batch, x, z)) return 12;
        for (int64_t i = 0; i < batch * 5; i++) {
            if (y[i] != z[i]) return 13;
            if (batch == 27) printf("%a ", y[i]);
        }
        free(x); free(y); free(z);
    }
    float one[1];
    if (libnet_predict(first, 1, NULL, one) != LIBNET_NULL) return 14;
    if (libnet_predict(first, -1, one, one) != LIBNET_SIZE) return 15;
    if (libnet_predict(first, 0, one, one)) return 16;
    fprintf(stderr, "%s\\n", libnet_error(LIBNET_SIZE));
    libnet_destroy(first);
    libnet_destroy(second);
    libnet_destroy(NULL);
    return 0;
}
"""


def network() -> tuple[Graph, dict[str, np.ndarray]]:
    g = Graph("net")
    x = g.input("image", Type(f32, (BATCH, 6, 6, 3)))
    w = g.source("parameter", "filters", Type(f32, (3, 3, 3, 4)))
    v = g.source("parameter", "kernel", Type(f32, (64, 5)))
    b = g.source("parameter", "bias", Type(f32, (5,)))
    hidden = ops.relu(conv(x, w, strides=(1, 1), padding="valid", dilation=(1, 1), groups=1))
    g.output("scores", ops.tanh(ops.add(matmul(ops.reshape(hidden, shape=(BATCH, 64)), v), b)))
    draw = np.random.default_rng(0)
    variables = {
        n: draw.standard_normal(s.shape).astype(np.float32) * 0.3 for n, s in g.sources.items() if n != "image"
    }
    return g, variables


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    graph, variables = network()
    header = export_library(pipeline.build(graph), variables, folder / "libnet.so")
    assert header == folder / "libnet.h"
    return folder


def expected(x: np.ndarray) -> np.ndarray:
    graph, variables = network()
    return pipeline.compile(graph).run({"image": x}, variables)["scores"]


def images(rows: int) -> np.ndarray:
    i = np.arange(rows * 108)
    return (((i * 37) % 101).astype(np.float32) / np.float32(50) - np.float32(1)).reshape(rows, 6, 6, 3)


def test_c_program(exported):
    (exported / "main.c").write_text(MAIN_C)
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", "main", "main.c", "./libnet.so"]
    subprocess.run(command, cwd=exported, check=True)
    done = subprocess.run(["./main"], cwd=exported, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "a size is negative or too large"
    got = np.array([float.fromhex(t) for t in done.stdout.split()], np.float32).reshape(27, 5)
    np.testing.assert_array_equal(got, expected(images(27)))


def test_nothing_but_libc(exported):
    needed = subprocess.run(["ldd", exported / "libnet.so"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].split("/")[-1].split(".")[0] for line in needed.splitlines()}
    assert names <= {"linux-vdso", "libc", "libm", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}
    shown = subprocess.run(["nm", "-D", "--defined-only", exported / "libnet.so"], capture_output=True, text=True)
    public = {line.split()[-1] for line in shown.stdout.splitlines()}
    assert public == {f"libnet_{n}" for n in ("create", "destroy", "predict", "error", "describe")}


@pytest.mark.parametrize("threads", [1, 2])
def test_python_class(exported, threads):
    model = ExportedModel(exported / "libnet.so", num_threads=threads)
    for rows in (1, 7, 300):
        np.testing.assert_array_equal(model(images(rows)), expected(images(rows)))
    with pytest.raises(ShapeError, match="expected shape"):
        model(np.zeros((2, 5, 6, 3)))
    with pytest.raises(ArgumentError, match="takes 1 inputs"):
        model(images(1), images(1))


def test_attention_of_named_lengths(tmp_path):
    """A loop over strips in one over rows; a part of a strip, two and a part."""
    graph, time = Graph("attention"), dim.symbol("time")
    x = graph.input("x", Type(f32, (BATCH, time, 4)))
    shares = ops.exp(einsum("bth,bsh->bts", x, x))
    shares = shares / ops.reduce_sum(shares, axes=(2,), keepdims=True)
    graph.output("y", einsum("bts,bsh->bth", shares, x))
    export_library(pipeline.build(graph), {}, tmp_path / "libattention.so")
    model, run = ExportedModel(tmp_path / "libattention.so", num_threads=2), pipeline.compile(graph).run
    for length in (5, 2 * NAMED_LENGTH + 3):
        given = np.random.default_rng(length).standard_normal((5, length, 4)).astype("f")
        np.testing.assert_array_equal(model(given), run({"x": given}, {})["y"])


def test_not_a_model(tmp_path):
    (tmp_path / "libx.so").write_bytes(b"nothing")
    with pytest.raises(ArgumentError, match="not a model exported"):
        ExportedModel(tmp_path / "libx.so")


def test_refused_paths(tmp_path):
    graph, variables = network()
    built = pipeline.build(graph)
    with pytest.raises(ArgumentError, match=r"ending in .so"):
        export_library(built, variables, tmp_path / "model.keras")
    with pytest.raises(ArgumentError, match="does not exist"):
        export_library(built, variables, tmp_path / "nowhere" / "libnet.so")
    assert list(tmp_path.iterdir()) == []


def test_no_linker(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(linker.shutil, "which", lambda name: None)
    monkeypatch.setattr(linker.importlib.util, "find_spec", lambda name: None)
    graph, variables = network()
    with pytest.raises(LinkerError, match=r"C compiler .* or the ziglang package; found neither[\s\S]*pip install"):
        export_library(pipeline.build(graph), variables, tmp_path / "libnet.so")


def test_a_failing_linker_leaves_the_old_library(tmp_path, monkeypatch):
    (tmp_path / "libnet.so").write_bytes(b"old")
    monkeypatch.setenv("CC", "false")
    graph, variables = network()
    with pytest.raises(LinkerError, match="the linker failed"):
        export_library(pipeline.build(graph), variables, tmp_path / "libnet.so")
    assert (tmp_path / "libnet.so").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["libnet.so"]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_kept_is_computed_by_create(tmp_path, threads):
    """A library with Winograd convolutions agrees with the running program to the bit."""
    g = Graph("kept")
    x = g.input("x", Type(f32, (BATCH, 16, 16, 64)))
    w = g.source("parameter", "w", Type(f32, (3, 3, 64, 64)))
    g.output("y", conv(x, w, padding="same"))
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((3, 3, 64, 64)).astype("float32") / 24}
    built = pipeline.build(g)
    assert built.program.prepare == 1
    export_library(built, weights, tmp_path / "libkept.so")
    image = rng.standard_normal((3, 16, 16, 64)).astype("float32")
    got = ExportedModel(tmp_path / "libkept.so", num_threads=threads)(image)
    np.testing.assert_array_equal(got, pipeline.compile(g).run({"x": image}, weights)["y"])
