"""Draws docs/architecture.svg: the processes with what they say to each other, and the layers of modules below.

The layers are those of tests/test_imports.py, so that the picture can't show an import that the test forbids.
`make docs` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("architecture.svg")

_WIDTH = 960
_FLOOR, _GAP = 34, 8
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.box { fill: #f6f8fa; stroke: #8c959f }
.ours { fill: #ddf4ff; stroke: #0969da }
.line { stroke: #59636e; fill: none; marker-end: url(#arrow) }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 }
  .box { fill: #151b23; stroke: #656c76 } .ours { fill: #0c2d6b; stroke: #4493f8 } .line { stroke: #9198a1 }
}
"""


class Box(NamedTuple):
    """A process; `lines` stand below its title. Lengths are in the SVG's own units, pixels at its natural size."""

    x: int
    y: int
    width: int
    title: str
    lines: tuple[str, ...]
    is_ours: bool = True

    @property
    def height(self) -> int:
        return 34 + 16 * len(self.lines)


class Arrow(NamedTuple):
    start: tuple[int, int]
    end: tuple[int, int]
    text: str
    at: tuple[int, int]


_PROCESSES = (
    Box(20, 20, 180, "kubectl, Helm, operators", ("create and update objects",), is_ours=False),
    Box(330, 20, 230, "kube-apiserver", ("asks webhooks about each object", "stores what is admitted"), is_ours=False),
    Box(
        700,
        20,
        240,
        "forestall serve (N replicas)",
        ("answers /mutate and /validate", "facts: a snapshot, kept by watches", "never writes"),
    ),
    Box(
        700,
        150,
        240,
        "forestall controller (one leads)",
        ("certificates, webhook configurations,", "LimitRanges, probes and gaps, console"),
    ),
    Box(
        330, 150, 240, "forestall auditor (one leads)", ("keeps an audit's findings current", "watches what is judged")
    ),
    Box(20, 150, 240, "forestall check, audit, doctor, …", ("files or a cluster, the same decision",)),
)
_ARROWS = (
    Arrow((200, 46), (330, 46), "", (0, 0)),
    Arrow((560, 38), (700, 38), "AdmissionReview", (578, 30)),
    Arrow((700, 74), (560, 62), "lists, watches", (590, 88)),
    Arrow((700, 170), (500, 88), "reads and writes", (622, 126)),
    Arrow((450, 150), (450, 88), "watches", (456, 126)),
    Arrow((260, 172), (390, 88), "lists", (216, 126)),
)


def picture(layers: Mapping[str, set[str]]) -> str:
    """The SVG, from each module or package to what it may import."""
    floors = list(_floors(layers))
    top = 270
    height = top + len(floors) * (_FLOOR + _GAP) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        "<title>Processes of Forestall, and the layers of its modules</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0 0 8 4 0 8z" fill="#59636e"/></marker></defs>',
        *(_arrow(arrow) for arrow in _ARROWS),
        *(part for box in _PROCESSES for part in _box(box)),
        f'<text x="20" y="{top - 14}">Modules of webhook/: each imports only from floors below its own</text>',
    ]
    for number, floor in enumerate(reversed(floors)):
        y = top + number * (_FLOOR + _GAP)
        parts.append(f'<rect class="box" x="20" y="{y}" width="{_WIDTH - 40}" height="{_FLOOR}" rx="4"/>')
        parts.append(f'<text x="36" y="{y + 22}">{escape("   ·   ".join(floor))}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _floors(layers: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """From the bottom: what imports only from floors that came before."""
    below: set[str] = set()
    while floor := sorted(name for name, needs in layers.items() if name not in below and needs <= below):
        yield floor
        below.update(floor)


def _box(box: Box) -> Iterator[str]:
    kind = "ours" if box.is_ours else "box"
    yield f'<rect class="{kind}" x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6"/>'
    yield f'<text x="{box.x + 12}" y="{box.y + 22}">{escape(box.title)}</text>'
    for number, line in enumerate(box.lines):
        yield f'<text class="small" x="{box.x + 12}" y="{box.y + 40 + 16 * number}">{escape(line)}</text>'


def _arrow(arrow: Arrow) -> str:
    (x, y), (to_x, to_y) = arrow.start, arrow.end
    text_x, text_y = arrow.at
    text = f'<text class="small" x="{text_x}" y="{text_y}">{escape(arrow.text)}</text>' if arrow.text else ""
    return f'<path class="line" d="M{x} {y} L{to_x} {to_y}"/>{text}'
