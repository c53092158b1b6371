"""The process of one peer for `layers.py`: reads JSON lines, answers JSON lines.

{"prepare": name of a row} -> {"ready": true}, false where the peer has no such layer, or {"error": what it said}
{"settle": seconds}        -> {"way": the fastest of its ways}; a turn will last about so long
{"measure": true}          -> {"seconds": per step}
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys

from benchmarks.layer_cases import ROWS
from benchmarks.peers import keep_to_cores
from benchmarks.timing import fastest, steps_for

MODULES = {"torch": "benchmarks.layers_torch"}  # every other peer is a Keras


def main(peer: str, threads: int) -> None:
    """Serve requests until standard input ends. Anything a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    keep_to_cores(threads)
    ways_of = importlib.import_module(MODULES.get(peer, "benchmarks.layers_keras")).ways
    by_name = {row.name: row for row in ROWS}
    ways, run, steps = {}, None, 1
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            ways, run = {}, None
            gc.collect()  # the last model goes before the next one comes
            try:
                ways = ways_of(peer, by_name[request["prepare"]], threads)
                for way in ways.values():
                    way(1)
                answer = {"ready": bool(ways)}
            except Exception as error:
                ways, answer = {}, {"error": f"{type(error).__name__}: {error}"}
        elif "settle" in request:
            name, seconds = fastest(ways)
            run, steps = ways[name], steps_for(request["settle"], seconds)
            answer = {"way": name}
        else:
            answer = {"seconds": run(steps)}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
