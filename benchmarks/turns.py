"""Processes of peers that take turns."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import environment

ROOT = Path(__file__).parent.parent
REST_S = 0.25  # threads of OpenMP wait actively for up to 0.2 s after their work, on the next peer's core


class Worker:
    """One peer in a process of its own."""

    def __init__(self, peer: str, threads: int, module: str = "benchmarks.worker", verbose: bool = False):
        self.peer, self.threads, self.module, self.verbose = peer, threads, module, verbose
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, self.peer, str(self.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None if self.verbose else subprocess.DEVNULL,
            text=True, env=environment(self.peer, self.threads), cwd=ROOT,
        )  # fmt: skip

    def ask(self, **request):
        """Send a request, wait for the answer; None if the peer died."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            return None
        return json.loads(line) if line else None

    def turn(self, **request):
        """`ask`, then wait until the peer's threads sleep too."""
        answer = self.ask(**request)
        if self.threads > 1:
            time.sleep(REST_S)
        return answer

    def revive(self) -> None:
        """Start again if the peer died."""
        if self.process.poll() is not None:
            self._start()

    def close(self) -> None:
        """Let the process end."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait()


def take_turns(workers: Sequence[Worker], turns: int) -> dict[str, list[float]]:
    """Seconds per step by peer, one number per turn."""
    times: dict[str, list[float]] = {w.peer: [] for w in workers}
    for _ in range(turns):
        for worker in workers:
            if (answer := worker.turn(measure=True)) is not None:
                times[worker.peer].append(answer["seconds"])
    return {peer: found for peer, found in times.items() if len(found) == turns}
