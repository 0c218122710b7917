"""A learning-rate search as one SVG: range test, short runs, and what they led to. No torch."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kudari.tune.learning_rate import LrSuggestion

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 56, 44
STYLE = """<style>
.found { background: #fff; font: 12px system-ui, sans-serif }
.found text { fill: #444 } .found .title { font-size: 13px; fill: #111; font-weight: 600 }
.found line { stroke: #ddd } .found .raw { fill: none; stroke: #0a6aa6; opacity: .35 }
.found .scan { fill: none; stroke: #0a6aa6; stroke-width: 2.25; stroke-linejoin: round }
.found .probes { fill: none; stroke: #c24a12; stroke-width: 1.5 }
.found circle { fill: #c24a12; stroke: #fff }
.found .band { fill: #0b6b52; opacity: .14 } .found .chosen { stroke: #0b6b52; stroke-width: 2 }
.found .words { fill: #0b6b52 }
@media (prefers-color-scheme: dark) {
.found { background: #121517 } .found text { fill: #a0a9b1 } .found .title { fill: #e6e9eb }
.found line { stroke: #30363b } .found .raw, .found .scan { stroke: #64b5f0 }
.found .probes { stroke: #f59a5c } .found circle { fill: #f59a5c; stroke: #121517 }
.found .band { fill: #62cfa9 } .found .chosen { stroke: #62cfa9 } .found .words { fill: #62cfa9 }
}
</style>"""


def draw_suggestion(found: LrSuggestion) -> str:
    """Draw a suggestion as one SVG that needs nothing else and follows the reader's light or dark theme.

    Args:
        found: of :func:`kudari.tune.lr`; one without a range test becomes a picture that says so.
    """
    title = f"Learning rate {found.lr:.2g}" if found.reliable else f"No reliable suggestion; {found.lr:.2g}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" class="found" role="img" aria-label="{escape(title)}">',
        STYLE,
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(found.why)}</desc>",
        f'<text x="{LEFT}" y="22" class="title">{escape(title)}</text>',
    ]
    if found.scan is None or not found.scan.rates:
        return "\n".join([*head, f'<text x="{LEFT}" y="60">There was no range test.</text>', "</svg>", ""])
    return "\n".join([*head, *_Plot(found).lines(), "</svg>", ""])


class _Plot:
    """Places of one picture."""

    def __init__(self, found: LrSuggestion) -> None:
        assert found.scan is not None
        self.found, self.scan = found, found.scan
        rates = [*self.scan.rates, *(p.lr for p in found.probes), found.low, found.high]
        self.low, self.high = math.log10(min(rates)) - 0.05, math.log10(max(rates)) + 0.05
        finite = [p.loss for p in found.probes if math.isfinite(p.loss)]
        ceiling = 1.15 * max(abs(self.scan.smoothed[0]), 1e-30)
        values = [min(v, ceiling) for v in [*self.scan.smoothed, *finite]]
        self.bottom, self.top = min(values), max(values)
        space = 0.06 * (self.top - self.bottom) or 0.1 * abs(self.top) or 1.0
        self.bottom, self.top = self.bottom - space, self.top + space

    def x(self, rate: float) -> float:
        across = WIDTH - LEFT - RIGHT
        return round(LEFT + across * (math.log10(rate) - self.low) / (self.high - self.low), 1)

    def y(self, loss: float) -> float:
        down = HEIGHT - TOP - BOTTOM
        share = (self.top - loss) / (self.top - self.bottom) if math.isfinite(loss) else 0.0
        return round(TOP + down * min(1.0, max(0.0, share)), 1)

    def lines(self) -> list[str]:
        return [*self._legend(), *self._band(), *self._axes(), *self._curves()]

    def _legend(self) -> list[str]:
        steps = self.found.probe_steps
        return [
            f'<line class="scan" x1="{LEFT}" x2="{LEFT + 22}" y1="38" y2="38"/>',
            f'<text x="{LEFT + 28}" y="42">range test, rate growing each step</text>',
            f'<circle cx="{LEFT + 290}" cy="38" r="4"/>',
            f'<text x="{LEFT + 300}" y="42">short runs of {steps} steps on the real schedule</text>',
        ]

    def _band(self) -> list[str]:
        found = self.found
        down = HEIGHT - BOTTOM
        parts = []
        if found.high > found.low:
            a, b = self.x(found.low), self.x(found.high)
            parts.append(f'<rect class="band" x="{a}" y="{TOP}" width="{b - a:.1f}" height="{down - TOP}"/>')
        at = self.x(found.lr) if self.low <= math.log10(found.lr) <= self.high else None
        if at is not None:
            parts.append(f'<line class="chosen" x1="{at}" x2="{at}" y1="{TOP}" y2="{down}"/>')
            parts.append(f'<text class="words" x="{at + 6}" y="{TOP + 14}">{found.lr:.2g}</text>')
        return parts

    def _axes(self) -> list[str]:
        parts = []
        for i in range(5):
            value = self.bottom + (self.top - self.bottom) * i / 4
            y = self.y(value)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.3g}</text>')
        for k in range(math.ceil(self.low), math.floor(self.high) + 1):
            parts.append(
                f'<text x="{self.x(10.0**k)}" y="{HEIGHT - 24}" text-anchor="middle">{10.0**k:g}</text>'
            )
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">learning rate</text>')
        return parts

    def _curves(self) -> list[str]:
        def points(values: list[tuple[float, float]]) -> str:
            return " ".join(f"{self.x(rate)},{self.y(loss)}" for rate, loss in values)

        scan, probes = self.scan, self.found.probes
        parts = [
            f'<polyline class="raw" points="{points(list(zip(scan.rates, scan.losses, strict=True)))}"/>',
            f'<polyline class="scan" points="{points(list(zip(scan.rates, scan.smoothed, strict=True)))}"/>',
        ]
        if probes:
            parts.append(f'<polyline class="probes" points="{points([(p.lr, p.loss) for p in probes])}"/>')
        for p in probes:
            words = f"{p.lr:.3g}: " + (f"{p.loss:.4g}" if math.isfinite(p.loss) else "diverged")
            parts.append(
                f'<circle cx="{self.x(p.lr)}" cy="{self.y(p.loss)}" r="4"><title>{words}</title></circle>'
            )
        return parts
