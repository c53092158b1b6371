"""`kcompile check model.keras`: does every layer have native code? Nothing is compiled or run."""

from __future__ import annotations

import argparse

from kcompile.errors import LoweringError
from kcompile.keras.saving import load_model
from kcompile.keras.training.programs import predict_graph
from kcompile.pipeline import passes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("model", help="a .keras or .h5 file")


def run(args: argparse.Namespace) -> int:
    """Print one line per layer that cannot be lowered; status 1 if there is one."""
    model = load_model(args.model, compile=False)
    graph = predict_graph(model)
    try:
        for row in passes():
            graph = row.run(graph)
    except LoweringError as error:
        print(error)
        return 1
    print(f"{model.name}: all {len(model.layers)} layers compile ({len(graph.live_nodes())} nodes)")
    return 0
