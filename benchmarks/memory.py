"""Peak resident memory of training, a process per peer: `python -m benchmarks.memory`.

`total` is the most memory the process ever held; `own` leaves out what it held after its imports: that is the model,
the data (the same for all), the compiler and what it left, and the step's own memory.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.peers import OURS, PEERS, environment, installed, keep_to_cores
from benchmarks.timing import fastest
from benchmarks.turns import ROOT
from benchmarks.workloads import SHAPES, TRAIN, Workload

STEPS = 8
LIBRARIES = {OURS: ("kcompile.keras", "kcompile.pipeline"), "keras-jax": ("keras",), "keras-tensorflow": ("keras",)}


def peak_bytes() -> int:
    """The most this process ever held."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(text.split()[1]) << 10 for text in lines if text.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource  # not on every system

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def measure(peer: str, workload: Workload, threads: int) -> dict[str, int]:
    """In the peer's own process: bytes after the imports, and at the end."""
    keep_to_cores(threads)
    for name in (*LIBRARIES.get(peer, ("torch",)), PEERS[peer].module):
        importlib.import_module(name)
    before = peak_bytes()
    ways = PEERS[peer].ways(workload, threads)
    way = "fit" if "fit" in ways else fastest(dict(list(ways.items())[:1]))[0]
    for _ in range(2):
        ways[way](STEPS)
    return {"imports": before, "total": peak_bytes()}


def _ask(peer: str, workload: Workload, threads: int) -> dict[str, int] | None:
    command = [sys.executable, "-m", "benchmarks.memory", "--inside", peer]
    command += ["--model", workload.model, "--batch", str(workload.batch), "--threads", str(threads)]
    done = subprocess.run(command, env=environment(peer, threads), cwd=ROOT, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="peers, names with commas")
    parser.add_argument("--quick", action="store_true", help="without torch.compile")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model not in SHAPES:
        parser.error(f"no model is called {args.model!r}. Expected one of {', '.join(SHAPES)}")
    workload = Workload(args.model, TRAIN, args.batch)
    if args.inside:
        print(json.dumps(measure(args.inside, workload, args.threads)))
        return
    peers = [p for p in installed(args.only) if PEERS[p].trains and not (args.quick and p == "torch-compile")]
    print(f"{workload.name}, MiB        imports      own    total")
    results = {}
    for peer in peers:
        if (found := _ask(peer, workload, args.threads)) is None:
            print(f"{peer}: failed", file=sys.stderr)
            continue
        results[peer] = found
        own = found["total"] - found["imports"]
        print(
            f"{peer:22s} {found['imports'] / 2**20:10.0f} {own / 2**20:8.0f} {found['total'] / 2**20:8.0f}", flush=True
        )
    if args.json:
        args.json.write_text(json.dumps({"memory": {workload.name: results}}, indent=1))


if __name__ == "__main__":
    main()
