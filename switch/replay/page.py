"""A replay's report as one HTML page that needs nothing else: no script, no font, no
picture from anywhere. What it shows is what the report holds, masked already."""

import html
from collections.abc import Iterable, Sequence
from typing import Final

from switch.replay.report import Bucket, ReplayedFrame, ReplayReport
from switch.replay.response import code_label

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem;
  padding: 0 1rem; color: #1c2430; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #dde3ea;
  vertical-align: top; }
th { font-weight: 600; } td.number { text-align: right;
  font-variant-numeric: tabular-nums; }
table.figures { width: auto; min-width: 20rem; }
.verdict { display: inline-block; padding: .2rem .8rem; border-radius: 1rem;
  font-weight: 600; color: #fff; background: #a02c2c; }
.verdict.good { background: #23713d; }
.different, .unanswered { color: #a02c2c; }
code { font-family: ui-monospace, monospace; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif;
  fill: #4a5666; } svg rect { fill: #3b6ea8; }
@media (prefers-color-scheme: dark) {
  body { color: #dfe6ee; background: #14181e; } th, td { border-color: #303945; }
  svg text { fill: #a9b6c4; } .different, .unanswered { color: #ef8a8a; } }
"""

BAR_WIDTH, BAR_GAP = 44, 8
CHART_HEIGHT, TEXT_HEIGHT = 160, 18


def page(title: str, about: str, report: ReplayReport) -> str:
    verdict = "all answered" + (" as captured" if report.matched else "")
    if not report.complete:
        verdict = "not as captured"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<h1>{_text(title)}</h1>\n<p>{_text(about)}</p>",
        f'<p class="verdict{" good" if report.complete else ""}">{verdict}</p>',
        _figures("Requests", _counts(report)),
        _figures("Response codes", _codes(report)),
        _figures("Fields that differ", _fields(report)),
        _latency(report),
        _faults(report),
        _exchanges(report.frames),
        "</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _counts(report: ReplayReport) -> list[tuple[str, str]]:
    return [(name, f"{count:,}") for name, count in figures(report).items()]


def figures(report: ReplayReport) -> dict[str, int]:
    """What is always told, and what is told when there is any."""
    always = {
        "sent": report.sent,
        "answered": report.answered,
        "as captured": report.matched,
        "different": report.different,
        "no captured answer": report.not_compared,
        "unanswered": report.unanswered,
        "unexpected": report.unexpected,
    }
    perhaps = {
        "not the switch's to answer": report.skipped,
        "not sent, card not mapped": report.unmapped,
        "not sent, unreadable": report.unreadable,
    } | report.notes
    return always | {name: count for name, count in perhaps.items() if count}


def _codes(report: ReplayReport) -> list[tuple[str, str]]:
    return [(code_label(c), f"{n:,}") for c, n in report.response_codes.items()]


def _fields(report: ReplayReport) -> list[tuple[str, str]]:
    return [(f"field {f}", f"{n:,}") for f, n in report.different_fields.items()]


def _figures(heading: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    lines = "\n".join(
        f'<tr><td>{_text(name)}</td><td class="number">{_text(value)}</td></tr>'
        for name, value in rows
    )
    return f'<h2>{heading}</h2>\n<table class="figures">\n{lines}\n</table>'


def _latency(report: ReplayReport) -> str:
    if not report.latency_buckets:
        return ""
    latency = report.latency_ms
    said = (
        f"p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms, "
        f"p99.9 {latency.p999:.2f} ms, max {latency.max:.2f} ms; "
        f"{report.seconds:,.1f} s in all"
    )
    chart = histogram(report.latency_buckets)
    return f"<h2>Latency</h2>\n<p>{said}</p>\n{chart}"


def histogram(buckets: Sequence[Bucket]) -> str:
    """A bar for each bucket, its count above and its upper end below."""
    step = BAR_WIDTH + BAR_GAP
    most = max(bucket.count for bucket in buckets)
    height = CHART_HEIGHT + 2 * TEXT_HEIGHT
    bars = []
    for index, bucket in enumerate(buckets):
        left, middle = index * step, index * step + BAR_WIDTH // 2
        size = CHART_HEIGHT * bucket.count / most
        top = TEXT_HEIGHT + CHART_HEIGHT - size
        end = "more" if bucket.up_to_ms is None else f"{bucket.up_to_ms:g}"
        count = f"{bucket.count:,}" if bucket.count else ""
        bars.append(
            f'<rect x="{left}" y="{top:.1f}" width="{BAR_WIDTH}" height="{size:.1f}"/>'
            f'<text x="{middle}" y="{top - 4:.1f}" text-anchor="middle">{count}</text>'
            f'<text x="{middle}" y="{height - 4}" text-anchor="middle">{end}</text>'
        )
    width = max(len(buckets) * step, 12 * step)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        'aria-label="answers by latency">\n'
        f"<title>Answers by latency, up to so many ms</title>\n{''.join(bars)}\n</svg>"
    )


def _faults(report: ReplayReport) -> str:
    if not report.faults:
        return ""
    items = "\n".join(f"<li>{_text(fault)}</li>" for fault in report.faults)
    return f"<h2>Faults</h2>\n<ul>\n{items}\n</ul>"


def _exchanges(frames: Iterable[ReplayedFrame]) -> str:
    rows = "\n".join(map(_exchange, frames))
    head = "".join(
        f"<th>{name}</th>"
        for name in ("where", "request", "STAN", "card", "amount", "answer", "outcome")
    )
    return (
        f"<h2>Exchanges</h2>\n<table>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>"
    )


def _exchange(frame: ReplayedFrame) -> str:
    answer = f"{frame.response_mti} {frame.response_code}".strip()
    if frame.response_mti:
        answer += f", {frame.time_ms:.2f} ms"
    said: list[str] = [frame.outcome]
    for each in frame.differences:
        captured, got = each.captured or "none", each.got or "none"
        said.append(f"field {each.field}: captured {captured}, got {got}")
    cells = (frame.place, frame.mti, frame.stan, frame.pan, frame.amount, answer)
    columns = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    outcome = "<br>".join(map(_text, said))
    return f'<tr>{columns}<td class="{frame.outcome}">{outcome}</td></tr>'


def _text(text: str) -> str:
    """Escaped; what a peer sent gets into no markup and shows no control character."""
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return html.escape(text)
