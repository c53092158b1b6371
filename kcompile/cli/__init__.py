"""The command `kcompile`: one file per sub-command, one row here."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from kcompile.errors import KcompileError

COMMANDS = {
    "check": "what of a model compiles, what does not, and why; runs nothing",
    "inspect": "graph, passes, kernels, memory plan, LLVM IR and assembly of a model",
    "profile": "time, GFLOP/s, GB/s and share of the machine's limit of each kernel of a model",
    "export": "a saved model as a shared library with a C header",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="kcompile", description="Compile Keras models to native code.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, meaning in COMMANDS.items():
        module = importlib.import_module(f"kcompile.cli.{name}")
        module.add_arguments(commands.add_parser(name, help=meaning, description=meaning))
    args = parser.parse_args(arguments)
    try:
        return importlib.import_module(f"kcompile.cli.{args.command}").run(args) or 0
    except (KcompileError, OSError) as error:
        print(f"kcompile {args.command}: {error}", file=sys.stderr)
        return 1
