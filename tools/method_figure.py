"""Draws docs/method.svg, and the same in notebook 02: the two towers, the bank, and the turns.

    python tools/method_figure.py

Plain SVG with its own light and dark colours, legible at the width of a phone (640 units wide,
text of 15 units and more).
"""

import base64
import random
import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET, NOTEBOOK = ROOT / "docs" / "method.svg", ROOT / "notebooks" / "02_train_qk.ipynb"
WIDTH, HEIGHT = 640, 676
STYLE = """
  svg { --ink: #1f2328; --soft: #59636e; --line: #8c959f; --paper: #ffffff; --pale: #eaeef2;
        --q: #0969da; --k: #bc4c00; --push: #cf222e; --pull: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6edf3; --soft: #9198a1; --line: #6e7781; --paper: #0d1117; --pale: #21262d;
          --q: #4493f8; --k: #f0883e; --push: #ff7b72; --pull: #3fb950; }
  }
  text { font: 16px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--ink); }
  .middle { text-anchor: middle; }
  .title { font-size: 19px; font-weight: 600; }
  .small { font-size: 15px; fill: var(--soft); }
  .on { fill: #ffffff; font-weight: 600; }
  .paper { fill: var(--paper); }
  .frame { fill: var(--paper); stroke: var(--line); stroke-width: 1.5; }
  .frozen { fill: var(--pale); stroke: var(--line); stroke-width: 1.5; stroke-dasharray: 6 4; }
  .q { fill: var(--q); }
  .k { fill: var(--k); }
  .pale { fill: var(--pale); }
  .push { fill: var(--push); }
  .pull { fill: var(--pull); }
  .arrow { stroke: var(--soft); stroke-width: 2; fill: none; marker-end: url(#tip); }
  .once { stroke-dasharray: 5 4; }
  #tip path { fill: var(--soft); }
"""
MARKER = (
    '<marker id="tip" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z"/></marker>'
)


def text(x, y, words, kind="middle"):
    """One line of text, its baseline at y."""
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(words)}</text>'


def rect(x, y, width, height, kind, corner=6):
    """A rectangle with rounded corners."""
    size = f'width="{width}" height="{height}"'
    return f'<rect x="{x}" y="{y}" {size} rx="{corner}" class="{kind}"/>'


def box(x, y, width, height, words, kind, written="middle"):
    """A rectangle with one or two lines in its middle."""
    lines = words.split("\n")
    top = y + height / 2 + 6 - 10 * (len(lines) - 1)
    inside = [text(x + width / 2, top + 20 * i, line, written) for i, line in enumerate(lines)]
    return "".join([rect(x, y, width, height, kind), *inside])


def arrow(*points, kind="arrow"):
    """A line through (x, y) points with a tip at its end."""
    path = " L".join(f"{x} {y}" for x, y in points)
    return f'<path d="M{path}" class="{kind}"/>'


def pictures(x, y, n, kind):
    """A stack of n little pictures: a frame, a hill and a sun."""
    drawn = []
    for i in range(n):
        left, top = x + 9 * i, y + 5 * i
        hill = f"M{left + 3} {top + 30} l13 -15 l8 9 l6 -6 l11 12 z"
        drawn += [rect(left, top, 44, 34, "frame", 3), f'<path d="{hill}" class="{kind}"/>']
        drawn.append(f'<circle cx="{left + 33}" cy="{top + 10}" r="4" class="{kind}"/>')
    return "".join(drawn)


def bank(x, y, width, rows):
    """The bank: one line a row."""
    lines = [rect(x, y, width, 12 * rows + 6, "frame")]
    lines += [rect(x + 7, y + 6 + 12 * i, width - 14, 7, "k", 2) for i in range(rows)]
    return "".join(lines)


def cell(x, y, size, kind):
    """One pair: a disc for a positive, so that grey print tells it from a square."""
    if kind == "pull":
        return f'<circle cx="{x + size / 2}" cy="{y + size / 2}" r="{size / 2}" class="pull"/>'
    return rect(x, y, size, size, kind, 2)


def matrix(x, y, rows=6, columns=13, size=14):
    """Distances of a batch to all keys: each query has its positive; a few negatives are hard."""
    draw = random.Random(4)
    positives = {(i, (2 * i + 1) % columns) for i in range(rows)}
    others = [(i, j) for i in range(rows) for j in range(columns) if (i, j) not in positives]
    hardest = set(draw.sample(others, 11))
    cells = []
    for i in range(rows):
        for j in range(columns):
            kind = "pull" if (i, j) in positives else "push" if (i, j) in hardest else "pale"
            cells.append(cell(x + size * j, y + size * i, size - 2, kind))
    return "".join(cells)


def phase():
    """One step of a phase in which tower Q trains."""
    left, right, wide = 20, 460, 160
    return [
        text(20, 30, "A step of phase Q", "title"),
        text(20, 54, "Tower Q trains. Tower K’s backbone is frozen.", "small"),
        pictures(left + 46, 76, 4, "q"),
        text(left + 80, 146, "32 edited copies"),
        arrow((left + 80, 154), (left + 80, 176)),
        box(left, 180, wide, 44, "backbone Q", "q", "middle on"),
        arrow((left + 80, 228), (left + 80, 306)),
        box(left, 310, wide, 44, "head Q", "q", "middle on"),
        pictures(right + 46, 76, 4, "k"),
        text(right + 80, 146, "all T originals (keys)"),
        arrow((right + 80, 154), (right + 80, 176), kind="arrow once"),
        box(right, 180, wide, 44, "backbone K\n(frozen)", "frozen"),
        bank(right, 238, wide, 4),
        text(right - 10, 252, "the bank:", "end"),
        text(right - 10, 272, "features of", "end"),
        text(right - 10, 292, "all keys", "end"),
        arrow((right + 80, 294), (right + 80, 306)),
        box(right, 310, wide, 44, "head K", "k", "middle on"),
        arrow((left + 80, 358), (left + 80, 410), (220, 410)),
        arrow((right + 80, 358), (right + 80, 410), (420, 410)),
        matrix(230, 368),
        text(left + 130, 432, "q", "small"),
        text(right + 22, 432, "k", "small"),
        text(320, 356, "distances, 32 × T"),
        cell(120, 466, 14, "pull"),
        text(142, 479, "pull: a copy and its original", "left"),
        cell(120, 490, 14, "push"),
        text(142, 503, "push: the 320 hardest of all other pairs", "left"),
    ]


def turns():
    """The phases in order, and what each trains."""
    drawn = [text(20, 546, "The turns", "title")]
    for i, name in enumerate(("Q1", "K1", "Q2", "K2", "Q3")):
        x, side = 20 + 126 * i, name[0].lower()
        drawn.append(box(x, 562, 96, 40, name, side, "middle on"))
        if i:
            drawn.append(arrow((x - 26, 582), (x - 4, 582)))
    drawn.append(
        text(20, 632, "In phase K the roles are swapped. At each switch the side that", "small")
    )
    drawn.append(
        text(20, 654, "will be frozen describes all its images anew: the next bank.", "small")
    )
    return drawn


def figure():
    """The whole drawing as SVG (str)."""
    name = "QK Iteration: two towers, a bank of all keys, and turns"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{name}">\n<title>{name}</title>\n<style>{STYLE}  .end {{ text-anchor: end; '
        "fill: var(--soft); font-size: 15px; }\n</style>\n"
    )
    paper = rect(0, 0, WIDTH, HEIGHT, "paper", 0)
    return "\n".join([head + f"<defs>{MARKER}</defs>", paper, *phase(), *turns(), "</svg>"]) + "\n"


def into_notebook(drawing, path=NOTEBOOK):
    """Put the drawing into the notebook's text: there is no file beside it where it is read."""
    text = path.read_text(encoding="utf-8")
    data = base64.b64encode(drawing.encode()).decode()
    path.write_text(re.sub(r"(svg\+xml;base64,)[\w+/=]*", rf"\g<1>{data}", text), encoding="utf-8")


if __name__ == "__main__":
    TARGET.write_text(figure(), encoding="utf-8")
    into_notebook(figure())
    print(TARGET)
