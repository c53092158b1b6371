"""`kcompile inspect model.keras`: look at any stage of a model's prediction program."""

from __future__ import annotations

import argparse
import contextlib

from kcompile import flags, inspection, pipeline
from kcompile.codegen.llvm import assembly, optimised_ir
from kcompile.errors import UnknownNameError, suggestion
from kcompile.keras.saving import load_model
from kcompile.keras.training.programs import predict_graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("model", help="a .keras or .h5 file")
    parser.add_argument("--stage", help="the graph after this pass (trace is the first)")
    parser.add_argument("--kernels", action="store_true", help="the steps, kernels and refused fusions")
    parser.add_argument(
        "--kernel", help="nodes, form, LLVM IR and assembly of one kernel: a step k3, or part of a name"
    )
    parser.add_argument("--llvm", action="store_true", help="with --kernel: only the LLVM IR")
    parser.add_argument("--asm", action="store_true", help="with --kernel: only the assembly")
    parser.add_argument("--times", action="store_true", help="compile all of it anew: where the time goes")
    parser.add_argument("--memory", action="store_true", help="the arena as a picture over time")
    parser.add_argument("--batch", type=int, default=32, help="batch size for --memory")
    parser.add_argument("--why", nargs=2, metavar="LAYER", help="why two layers are, or are not, one kernel")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for; without options, a line per stage."""
    graph = predict_graph(load_model(args.model, compile=False))
    if args.stage:
        print(_after(graph, args.stage))
        return 0
    with flags.scoped(cache=False) if args.times else contextlib.nullcontext():
        built = pipeline.build(graph)
    if args.kernel:
        print(_kernel(built, args))
    elif args.kernels:
        print(inspection.plan_text(built))
    elif args.times:
        print(inspection.times_text(built))
    elif args.memory:
        sizes = dict.fromkeys(built.program.symbols, args.batch)
        print(inspection.memory_text(built, sizes))
    elif args.why:
        print(inspection.why_text(built, *args.why))
    else:
        print(inspection.stages_text(built))
    return 0


def _after(graph, stage: str) -> str:
    known = ["trace", *(row.name for row in pipeline.passes())]
    if stage not in known:
        raise UnknownNameError(f"no stage is called {stage!r}.{suggestion(stage, known)} Known: {', '.join(known)}")
    for row in pipeline.passes()[: known.index(stage)]:
        graph = row.run(graph)
    return str(graph)


def _kernel(built: pipeline.Build, args: argparse.Namespace) -> str:
    ir_text = built.kernels[inspection.find_kernel(built, args.kernel)].ir_text
    parts = [] if args.llvm or args.asm else [inspection.kernel_text(built, args.kernel)]
    if args.llvm or not args.asm:
        parts.append(optimised_ir(ir_text, built.target))
    if args.asm or not args.llvm:
        parts.append(assembly(ir_text, built.target))
    return "\n".join(parts)
