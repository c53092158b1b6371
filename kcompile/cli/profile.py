"""`kcompile profile model.keras`: where the time of a model's prediction goes, kernel by kernel."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kcompile import pipeline
from kcompile.errors import ArgumentError
from kcompile.ir import dim
from kcompile.ir.graph import INPUT, Graph
from kcompile.keras.saving import load_model
from kcompile.keras.training.programs import trace_predict
from kcompile.runtime.profile import profile
from kcompile.runtime.profile_text import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("model", help="a .keras or .h5 file")
    parser.add_argument("--batch", type=int, default=32, help="rows of a batch (32)")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=N", help="another open size")
    parser.add_argument("--threads", type=int, help="how many threads (all)")
    parser.add_argument("--by-time", action="store_true", help="slowest kernels first")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with the timeline and the memory plan")


def run(args: argparse.Namespace) -> int:
    """Print the table; inputs are random numbers (zeros where they are integers)."""
    if args.batch < 1 or (args.threads is not None and args.threads < 1):
        raise ArgumentError(f"--batch and --threads expect at least 1, received {args.batch} and {args.threads}")
    traced = trace_predict(load_model(args.model, compile=False))
    sizes = {"batch": args.batch, **dict(_named_size(s) for s in args.size)}
    inputs = random_inputs(traced.graph, sizes)
    found = profile(pipeline.build(traced.graph), inputs, traced.arrays(), num_threads=args.threads)
    print(table(found, by_time=args.by_time))
    if args.html:
        args.html.write_text(found.html(), encoding="utf-8")
        print(f"wrote {args.html}")
    return 0


def _named_size(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals or not number.isdigit():
        raise ArgumentError(f"--size expects NAME=N, received {text!r}")
    return name, int(number)


def random_inputs(graph: Graph, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Arrays for a graph's inputs.

    Raises: ArgumentError naming the sizes that are not given.
    """
    types = {n: v.type for n, v in graph.sources.items() if v.node.role == INPUT}
    missing = {s for t in types.values() for n in t.shape for s in dim.symbols(n)} - set(sizes)
    if missing:
        raise ArgumentError(f"the model leaves open {', '.join(sorted(missing))}: give --size NAME=N for each")
    draw = np.random.default_rng(0)
    arrays = {}
    for name, type_ in types.items():
        shape = tuple(dim.evaluate(n, sizes) for n in type_.shape)
        if type_.dtype.is_float:
            arrays[name] = draw.standard_normal(shape).astype(type_.dtype.numpy)
        else:
            arrays[name] = np.zeros(shape, type_.dtype.numpy)  # indices: zero is always one
    return arrays
