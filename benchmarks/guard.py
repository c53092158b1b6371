"""Compare ratios with recorded ones: `python -m benchmarks.guard --only "cnn train" --quick`, or `--from results.json`.

A ratio is a peer's time over kcompile's in the same turn, so another machine state or a slower clock moves both. Per
row and peer the recorded quartiles and median are kept. A row got worse if its ratios fell against the peers as a
whole (geometric mean over those in both runs) by more than the noise: the wider of the two runs' quartile ranges,
and never less than FLOOR. One peer alone may have become faster, that is no fault of ours.

Without `--from` whole models are measured now, as `benchmarks.run` does. `--record NAME` keeps the numbers in
`recorded/NAME.json` instead of comparing; rows it already holds and this run lacks stay. The exit status is 1 if a
row got worse, kcompile failed on one, or there was nothing to compare.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import OURS

RECORDED = Path(__file__).parent / "recorded"
FLOOR = 0.10  # of a ratio: less is not seen from run to run
MODELS, KERNELS = "models", "kernels"

Ratio = tuple[float, float, float]  # lower quartile, median, upper quartile
Table = dict[str, dict[str, Ratio]]  # by row ("models, 2 threads: cnn train b32"), then by peer


@dataclass(frozen=True)
class Change:
    """What became of a row: the factor on its ratios, and how far noise reaches."""

    row: str
    factor: float
    noise: float
    peers: tuple[str, ...]

    @property
    def worse(self) -> bool:
        return self.factor < 1 - self.noise

    @property
    def better(self) -> bool:
        return self.factor > 1 + self.noise


def table(report: Mapping) -> Table:
    """The ratios of what `benchmarks.run` or `benchmarks.kernels` wrote."""
    found: Table = {}
    for row, seconds in _rows(report):
        ours = seconds.get(OURS)
        if not ours:
            continue
        peers = {p: _quartiles([t / o for t, o in zip(s, ours)]) for p, s in seconds.items() if p != OURS and s}
        if peers:
            found[row] = peers
    return found


def _rows(report: Mapping) -> Iterator[tuple[str, Mapping]]:
    if MODELS in report:
        for count, rows in report[MODELS].items():
            yield from ((_label(MODELS, count, name), row["seconds"]) for name, row in rows.items())
        return
    for count, part in report.items():
        if isinstance(part, Mapping) and "seconds_per_call" in part:
            yield from ((_label(KERNELS, count, name), times) for name, times in part["seconds_per_call"].items())


def without_us(report: Mapping) -> list[str]:
    """Rows that peers have a time for and kcompile has not: it failed there."""
    return [row for row, seconds in _rows(report) if seconds and not seconds.get(OURS)]


def _label(kind: str, threads, name: str) -> str:
    return f"{kind}, {threads} thread{'s' * (int(threads) > 1)}: {name}"


def _quartiles(values: list[float]) -> Ratio:
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def changes(before: Table, now: Table) -> list[Change]:
    """Rows in both, the worst first."""
    found = []
    for row in before.keys() & now.keys():
        peers = sorted(before[row].keys() & now[row].keys())
        if peers:
            factors = [now[row][p][1] / before[row][p][1] for p in peers]
            noise = statistics.median(max(_range(before[row][p]), _range(now[row][p])) for p in peers)
            found.append(Change(row, statistics.geometric_mean(factors), max(FLOOR, noise), tuple(peers)))
    return sorted(found, key=lambda c: (c.factor, c.row))


def _range(ratio: Ratio) -> float:
    low, middle, high = ratio
    return (high - low) / middle if middle and math.isfinite(middle) else math.inf


def recorded(folder: Path = RECORDED) -> Table:
    """All files of the folder together; the later name counts where two have the same row."""
    found: Table = {}
    for file in sorted(folder.glob("*.json")):
        found.update(json.loads(file.read_text(encoding="utf-8")))
    return found


def record(now: Table, file: Path) -> None:
    """Keep rows, rounded: the fourth digit of a ratio says nothing."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    kept.update({row: {p: [float(f"{v:.4g}") for v in r] for p, r in peers.items()} for row, peers in now.items()})
    file.parent.mkdir(exist_ok=True)
    lines = [f" {json.dumps(row)}: {json.dumps(kept[row])}" for row in sorted(kept)]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def summary(found: list[Change]) -> str:
    """Rows that got worse, then those that got better, then a count."""
    lines = []
    for title, rows in (("worse", [c for c in found if c.worse]), ("better", [c for c in found if c.better])):
        for c in rows:
            lines.append(f"{title:7s} x{c.factor:.2f} (noise {c.noise:.0%}) {c.row}, against {', '.join(c.peers)}")
    worse, better = sum(c.worse for c in found), sum(c.better for c in found)
    lines.append(f"{len(found)} rows: {worse} worse, {better} better, {len(found) - worse - better} as recorded")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="file", type=Path, help="what benchmarks.run or benchmarks.kernels wrote")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="small models, short turns")
    parser.add_argument("--peers", default="", help="names with commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", metavar="NAME", help="keep the ratios in recorded/NAME.json")
    args = parser.parse_args()
    report = _read(args.file) if args.file else _measured(args)
    now = {row: peers for row, peers in table(report).items() if args.only in row}
    if args.record:
        record(now, RECORDED / f"{args.record}.json")
        print(f"{len(now)} rows recorded")
        return
    found = changes(recorded(), now)
    print(summary(found))
    if unknown := sorted(now.keys() - recorded().keys()):
        print(f"not recorded: {'; '.join(unknown)}")
    failed = [row for row in without_us(report) if row in recorded() and args.only in row]
    if failed:
        print(f"kcompile has no time for: {'; '.join(failed)}")
    if not found:
        print("nothing to compare: no row of this run is among the recorded ones")
    sys.exit(1 if failed or not found or any(c.worse for c in found) else 0)


def _read(file: Path) -> dict:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"{file} is not what benchmarks.run or benchmarks.kernels writes with --json: {error}"
        ) from None
    return report if isinstance(report, dict) else {}


def _measured(args: argparse.Namespace) -> dict:
    from benchmarks.run import table_of  # starts the peers

    return table_of(args.only, args.peers, [args.threads], args.quick)


if __name__ == "__main__":
    main()
