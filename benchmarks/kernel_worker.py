"""The process of one peer for `kernels.py`: reads JSON lines, answers JSON lines.

{"prepare": name of a case}   -> {"ready": true}, or false where the peer has no such kernel
{"measure": calls}            -> {"seconds": per call}
{"limits": true}              -> what the machine can do; only from kcompile
{"operations": name}          -> scalar operations of a case; only from kcompile
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import time

from benchmarks.kernel_cases import CASES


def main(peer: str, threads: int) -> None:
    """Serve requests until standard input ends. Anything a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if peer == "torch":
        import torch  # only in its own process

        torch.set_num_threads(threads)
    prepare = importlib.import_module(f"benchmarks.kernels_{peer}").prepare
    by_name = {c.name: c for c in CASES}
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            run = prepare(by_name[request["prepare"]])
            answer = {"ready": run is not None}
        elif "limits" in request:
            answer = limits(threads)
        elif "operations" in request:
            answer = importlib.import_module(f"benchmarks.kernels_{peer}").operations(by_name[request["operations"]])
        else:
            answer = {"seconds": measure(run, request["measure"])}
        answers.write(json.dumps(answer) + "\n")


def measure(run, calls: int) -> float:
    """Seconds per call."""
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started) / calls


def limits(threads: int) -> dict:
    """The machine as kcompile measures it, as plain data."""
    from kcompile.runtime.machine import machine  # only where kcompile runs

    return dataclasses.asdict(machine(threads))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
