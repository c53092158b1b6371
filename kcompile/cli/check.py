"""`kcompile check model.keras`: does every layer have native code? Nothing is compiled or run."""

from __future__ import annotations

import argparse

from kcompile.keras.models.checking import check
from kcompile.keras.saving import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("model", help="a .keras or .h5 file")


def run(args: argparse.Namespace) -> int:
    """Print a line per layer, then the reason if one cannot be lowered; status 1 if there is one."""
    found = check(load_model(args.model, compile=False))
    print(found)
    return 0 if found.ok else 1
