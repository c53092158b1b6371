"""`kcompile export m.keras -o libm.so`."""

from __future__ import annotations

import argparse

from kcompile.keras.saving import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("model", help="a .keras or .h5 file")
    parser.add_argument("-o", "--output", required=True, help="the shared library to write: libm.so")


def run(args: argparse.Namespace) -> int:
    """Export and say what was written."""
    model = load_model(args.model, compile=False)
    model.export(args.output)
    print(f"wrote {args.output} and its header")
    return 0
