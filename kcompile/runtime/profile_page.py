"""A profile as one HTML page: table, timeline and memory plan. It loads nothing and runs no script.

Colour is the share of the machine's limit, from red (0) to green (1). Names come from models, which come from
anywhere: every text is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from kcompile.runtime.profile_text import headline, label, notes, with_inner

if TYPE_CHECKING:  # as in profile_text.py
    from kcompile.runtime.profile import Profile, Record

WIDTH, ROW = 1200, 44  # of the drawings, in pixels
ARENA_HEIGHT = 360
MIN_WIDTH = 0.4  # of a step that would be too thin to see

_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 24px auto; max-width: 1240px; padding: 0 16px; }
h1 { font-size: 20px; } h2 { font-size: 16px; margin-top: 28px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 8px; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th.l, td.l { text-align: left; } td.w { white-space: normal; min-width: 220px; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
svg .on { fill: #000; }
rect { stroke: #0003; stroke-width: .5; } rect:hover { stroke: currentColor; stroke-width: 1.5; }
"""


def page(profile: Profile) -> str:
    """Return the page's text."""
    title = escape(f"Profile of {profile.name}")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>",
        f"<p>{escape(headline(profile))}</p>",
        f"<h2>Timeline: {1e6 * _total(profile):.2f} us in steps, {1e6 * profile.total_s:.2f} us in one call</h2>",
        timeline_svg(profile),
        f"<h2>Memory: an arena of {profile.arena_bytes:,} bytes</h2>",
        memory_svg(profile),
        "<h2>Steps</h2>",
        _table(profile),
        *(f"<p>{escape(note)}</p>" for note in notes(profile)),
        "</body></html>",
    ]
    return "\n".join(parts)


def timeline_svg(profile: Profile) -> str:
    """One bar per step over time."""
    total = max(_total(profile), 1e-12)
    shapes = []
    for r in profile.records:
        x, width = WIDTH * r.start_s / total, max(WIDTH * r.seconds / total, MIN_WIDTH)
        shapes.append(_rect(x, 0, width, ROW, _colour(r.share), _tip(r)))
        if width > 60:
            shown = label(r)[: int(width / 6.5)]
            shapes.append(
                f'<text x="{x + 4:.1f}" y="{ROW / 2 + 4}" class="on" pointer-events="none">{escape(shown)}</text>'
            )
    for tick in range(11):
        anchor = "start" if tick == 0 else "end" if tick == 10 else "middle"
        where = f'x="{WIDTH * tick / 10:.1f}" y="{ROW + 16}" text-anchor="{anchor}"'
        shapes.append(f"<text {where}>{1e5 * total * tick:.1f} us</text>")
    return _svg(ROW + 22, shapes, "time per step")


def memory_svg(profile: Profile) -> str:
    """The arena: steps to the right, offsets downwards, a rectangle per buffer."""
    if not profile.pieces or not profile.arena_bytes:
        return "<p>This program needs no scratch memory.</p>"
    steps, arena = max(len(profile.records), 1), profile.arena_bytes
    shapes = []
    for number, p in enumerate(profile.pieces):
        x, width = WIDTH * p.first / steps, WIDTH * (p.last - p.first + 1) / steps
        y, height = ARENA_HEIGHT * p.offset / arena, max(ARENA_HEIGHT * p.nbytes / arena, MIN_WIDTH)
        tip = f"{p.name}\n{p.nbytes:,} bytes at {p.offset:,}, steps {p.first} to {p.last}"
        shapes.append(_rect(x, y, width, height, f"hsl({(number * 47) % 360} 45% 60%)", tip))
    for tick in range(0, steps + 1, max(1, steps // 12)):
        shapes.append(f'<text x="{WIDTH * tick / steps:.1f}" y="{ARENA_HEIGHT + 14}">{tick}</text>')
    return _svg(ARENA_HEIGHT + 20, shapes, "arena over the steps")


def _table(profile: Profile) -> str:
    total = max(_total(profile), 1e-12)
    names = ("step", "us", "time", "GFLOP/s", "GB/s", "limit", "by")
    head = "".join(f"<th>{n}</th>" for n in names) + "".join(
        f'<th class="l">{n}</th>' for n in ("layers: nodes", "kernel", "path")
    )
    rows = []
    for r, number in (pair for record in profile.records for pair in with_inner(record)):
        numbers = (
            number, f"{1e6 * r.seconds:.2f}", f"{r.seconds / total:.1%}", f"{r.flops_per_s / 1e9:.1f}",
            f"{r.bytes_per_s / 1e9:.1f}", f"{r.share:.1%}", r.bound,
        )  # fmt: skip
        cells = "".join(f"<td>{escape(n)}</td>" for n in numbers)
        cells += f'<td class="l w">{escape(label(r))}</td><td class="l">{escape(r.kernel)}</td>'
        rows.append(f'<tr>{cells}<td class="l">{escape(r.path)}</td></tr>')
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _tip(r: Record) -> str:
    return (
        f"{r.number}: {label(r)}\n{r.kernel}\n{r.path}\n{1e6 * r.seconds:.2f} us, {r.flops_per_s / 1e9:.1f} GFLOP/s, "
        f"{r.bytes_per_s / 1e9:.1f} GB/s\n{r.share:.1%} of the limit ({r.bound})"
    )


def _rect(x: float, y: float, width: float, height: float, colour: str, tip: str) -> str:
    where = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f'<rect {where} fill="{colour}"><title>{escape(tip)}</title></rect>'


def _svg(height: float, shapes: list[str], meaning: str) -> str:
    opening = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{meaning}">'
    return "\n".join([opening, *shapes, "</svg>"])


def _colour(share: float) -> str:
    return f"hsl({120 * min(max(share, 0.0), 1.0):.0f} 60% 62%)"


def _total(profile: Profile) -> float:
    return sum(r.seconds for r in profile.records)
