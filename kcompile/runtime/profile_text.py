"""A profile as lines of text: one row per step, then the sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcompile.runtime.machine import COMPUTE

if TYPE_CHECKING:  # a profile prints itself with this module
    from kcompile.runtime.profile import Profile, Record

HEADER = (
    f"{'step':>4s} {'us':>10s} {'time':>6s} {'GFLOP/s':>8s} {'GB/s':>7s} {'limit':>6s} {'by':8s} "
    "kernel | path | layers: nodes"
)


def table(profile: Profile, *, by_time: bool = False) -> str:
    """The table; steps in order, or the slowest first."""
    records = sorted(profile.records, key=lambda r: -r.seconds) if by_time else profile.records
    total = sum(r.seconds for r in profile.records)
    rows = [(r, name) for record in records for r, name in with_inner(record)]
    lines = [headline(profile), HEADER, *(_row(r, name, total) for r, name in rows)]
    flops, nbytes = (sum(v) for v in zip(*((r.work.flops, r.work.nbytes) for r in records))) if records else (0, 0)
    share = profile.limit_s / total if total else 0.0
    lines.append(
        f"{'sum':>4s} {1e6 * total:10.2f} {'':6s} {_rate(flops, total):8.1f} {_rate(nbytes, total):7.1f} "
        f"{share:6.1%} {'':8s} {1e6 * profile.total_s:.2f} us in one call"
    )
    return "\n".join([*lines, *notes(profile)])


def notes(profile: Profile) -> list[str]:
    """Why shares are above 1, if any is; the machine's numbers have an error of some percent."""
    above = [r for r in profile.records if r.share > 1]
    if not above:
        return []
    moving, computing = (", ".join(str(r.number) for r in above if (r.bound == COMPUTE) is c) for c in (False, True))
    reasons = []
    if moving:
        reasons.append(f"steps {moving}: earlier steps left their inputs in a nearer cache than a run alone would find")
    if computing:
        reasons.append(f"steps {computing}: the measured peak is that of a moment when the machine was slower")
    return [f"above 100 %: {reason}" for reason in reasons]


def headline(profile: Profile) -> str:
    """Program, sizes, repetitions and the machine in one line."""
    sizes = ", ".join(f"{n}={v}" for n, v in profile.sizes.items()) or "fixed sizes"
    machine = profile.machine
    levels = ", ".join(f"{v.name} {v.bytes_per_s / 1e9:.0f}" for v in machine.levels)
    pairs = f" (bfloat16 {machine.pair_flops_per_s / 1e9:.0f})" if machine.pair_flops_per_s else ""
    return (
        f"{profile.name}: {sizes}; medians of {profile.repetitions} runs, threads: {machine.threads}, machine: "
        f"{machine.flops_per_s / 1e9:.0f} GFLOP/s{pairs}, GB/s: {levels}"
    )


def label(record: Record) -> str:
    """What a step stands for: its layers and nodes."""
    nodes = " ".join(record.what)
    return f"{', '.join(record.layers)}: {nodes}" if record.layers else nodes


def with_inner(record: Record) -> list[tuple[Record, str]]:
    """A record and, for a loop, its kernels; each with its number: 3, 3.0, 3.1."""
    return [(record, str(record.number)), *((r, f"{r.number}.{n}") for n, r in enumerate(record.inner))]


def _row(r: Record, number: str, total: float) -> str:
    return (
        f"{number:>4s} {1e6 * r.seconds:10.2f} {r.seconds / max(total, 1e-12):6.1%} {r.flops_per_s / 1e9:8.1f} "
        f"{r.bytes_per_s / 1e9:7.1f} {r.share:6.1%} {r.bound:8s} {r.kernel} | {r.path} | {label(r)}"
    )


def _rate(count: int, seconds: float) -> float:
    return count / max(seconds, 1e-9) / 1e9
