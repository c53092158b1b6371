"""How long until a model's program is ready, in fresh processes: `python -m benchmarks.compile --only cnn`.

kcompile: cold (an empty cache) and from the disk cache; `program` is tracing, compiling and linking, `step` the
first step after it, and where the time went follows. Peers: their first step, cold and with what they keep on disk.
Making the model (layers, initial weights) and the imports are not part of either; `build` shows the former.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import choices
from benchmarks.models_keras import build
from benchmarks.peers import OURS, environment, installed
from benchmarks.turns import ROOT
from benchmarks.workloads import INFER, TRAIN, Workload, chosen, data

ROWS = (
    Workload("cnn", TRAIN, 32),
    Workload("resnet20", TRAIN, 32, quick=False),
    Workload("resnet50", INFER, 1, quick=False),
    Workload("resnet50", TRAIN, 2, quick=False),
)
PEERS = (OURS, "keras-jax", "torch-compile")
COLD, CACHED = "cold", "cached"
SUMMARY = re.compile(r"^kcompile: (?P<name>\w+): .*; ms: (?P<stages>.*)$", re.MULTILINE)


def _kept(folder: str) -> dict[str, str]:
    """Where each peer keeps what it compiled."""
    return {
        "KCOMPILE_CACHE_DIR": folder,
        "KCOMPILE_DEBUG": "1",
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TORCHINDUCTOR_CACHE_DIR": folder,
    }


def measure(peer: str, workload: Workload, threads: int) -> dict[str, float]:
    """In a fresh process: seconds."""
    if peer != OURS:
        return _first_step(peer, workload, threads)
    from kcompile import keras, pipeline  # noqa: F401  each peer only in its own process; imports are not measured
    from kcompile.keras.training.programs import PREDICT, Batch
    from kcompile.keras.training.programs import TRAIN as TRAINING

    x, y = data(workload.model, workload.batch)
    start = time.perf_counter()
    model = build(keras, workload.model)
    built = time.perf_counter()
    mode, batch = (TRAINING, Batch(x, y)) if workload.trains else (PREDICT, Batch(x))
    model._program(mode, batch).ready()
    ready = time.perf_counter()
    model.train_on_batch(x, y) if workload.trains else model.predict_on_batch(x)
    stepped = time.perf_counter()
    return {"build": built - start, "program": ready - built, "step": stepped - ready}


def _first_step(peer: str, workload: Workload, threads: int) -> dict[str, float]:
    if peer == "torch-compile":
        from benchmarks import peer_torch_compile  # each peer only in its own process

        start = time.perf_counter()
        (run,) = peer_torch_compile.ways(peer, workload, threads).values()
        built = time.perf_counter()
        run(1)
    else:
        from benchmarks.peer_keras import load  # as above

        keras = load(peer, threads)
        x, y = data(workload.model, workload.batch)
        start = time.perf_counter()
        model = build(keras, workload.model)
        built = time.perf_counter()
        model.train_on_batch(x, y) if workload.trains else model.predict_on_batch(x)
    return {"build": built - start, "program": time.perf_counter() - built}


def _ask(peer: str, workload: Workload, threads: int, folder: str) -> dict | None:
    command = [sys.executable, "-m", "benchmarks.compile", "--inside", peer, "--threads", str(threads)]
    command += ["--workload", workload.model, workload.mode, str(workload.batch)]
    kept = {**environment(peer, threads), **_kept(folder)}
    done = subprocess.run(command, env=kept, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(f"  {peer} failed on {workload.name}: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return {**json.loads(done.stdout.splitlines()[-1]), "stages": stages(done.stderr)}


def stages(printed: str) -> dict[str, float]:
    """Seconds per stage of the programs that KCOMPILE_DEBUG=1 told about."""
    found: dict[str, float] = {}
    for match in SUMMARY.finditer(printed):
        words = re.findall(r"(\D+?) (\d+)(?: |$)", match["stages"])
        for name, milliseconds in words:
            found[name] = found.get(name, 0.0) + int(milliseconds) / 1e3
    return found


def compare(workload: Workload, peers: list[str], threads: int, repeats: int) -> dict:
    """Cold once, cached several times (the median), a folder per peer."""
    row = {}
    for peer in peers:
        with tempfile.TemporaryDirectory() as folder:
            cold = _ask(peer, workload, threads, folder)
            if cold is None:
                continue
            cached = [a for _ in range(repeats) if (a := _ask(peer, workload, threads, folder))]
            middle = sorted(cached, key=lambda a: a["program"])[len(cached) // 2]
            row[peer] = {COLD: cold, CACHED: middle, "disk_bytes": _size(folder)}
    return row


def _size(folder: str) -> int:
    return sum(os.path.getsize(os.path.join(where, f)) for where, _, files in os.walk(folder) for f in files)


def lines(workload: Workload, row: dict) -> list[str]:
    """A row and where kcompile's time went."""
    found = []
    for peer, answers in row.items():
        cells = [f"{workload.name:20s} {peer:14s}"]
        for which in (COLD, CACHED):
            a = answers[which]
            cells.append(f"{which} {a['program']:7.3f} (build {a['build']:5.2f}, step {a.get('step', 0):5.2f})")
        found.append(" ".join(cells) + f" disk {answers['disk_bytes'] / 2**20:6.1f} MiB")
        if peer == OURS:
            for which in (COLD, CACHED):
                spent = sorted(answers[which]["stages"].items(), key=lambda p: -p[1])
                text = ", ".join(f"{n} {s:.3f}" for n, s in spent if s >= 0.01 * answers[which]["program"])
                missing = answers[which]["program"] - sum(s for _, s in spent)
                found.append(f"    {which}: {text}, outside the stages {missing:.3f}")
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="the CNN only, kcompile only")
    parser.add_argument("--peers", help=f"names with commas, default {','.join(PEERS)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="of the start from the disk cache")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--workload", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        model, mode, batch = args.workload
        print(json.dumps(measure(args.inside, Workload(model, mode, int(batch)), args.threads)))
        return
    rows = choices.some(chosen(args.only, args.quick, ROWS), args.only, (w.name for w in ROWS))
    peers = installed(args.peers or (OURS if args.quick else ",".join(PEERS)))
    print("seconds until the program is ready (peers: until the first step is done)")
    results = {}
    for workload in rows:
        results[workload.name] = compare(workload, peers, args.threads, args.repeats)
        print("\n".join(lines(workload, results[workload.name])), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"compile": results}, indent=1))


if __name__ == "__main__":
    main()
