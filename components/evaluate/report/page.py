"""Pieces of a self-contained HTML page: nothing is fetched, nothing runs."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

STYLE = """
:root { --ink:#1c1e21; --soft:#5f6670; --line:#e3e6ea; --wash:#f6f7f9; --ours:#2b5c8f; --theirs:#b9c0c8; --hit:#f3b8ae }
* { box-sizing:border-box }
body { margin:0; background:#fff; color:var(--ink); font:15px/1.55 -apple-system,"Segoe UI",Roboto,
  "Helvetica Neue","Liberation Sans",Arial,sans-serif; -webkit-text-size-adjust:100%; overflow-wrap:break-word }
main { max-width:980px; margin:0 auto; padding:48px 28px 72px }
h1,h2 { font-family:Charter,"Bitstream Charter","Iowan Old Style",Georgia,"Liberation Serif",serif; font-weight:600;
  letter-spacing:-.01em; line-height:1.2 }
h1 { font-size:34px; margin:0 0 8px }
h2 { font-size:23px; margin:0 0 4px }
h3 { font-size:13px; margin:28px 0 8px; color:var(--soft); text-transform:uppercase; letter-spacing:.06em }
section { margin-top:52px; padding-top:24px; border-top:1px solid var(--line) }
p { margin:8px 0; max-width:44em }
.lead { font-size:17px; color:var(--soft) }
.note, figcaption { color:var(--soft); font-size:13.5px; max-width:52em }
figure { margin:18px 0 0 } figcaption { margin-top:8px }
img { max-width:100%; height:auto; display:block }
#errors td:first-child { width:25% } td .bar { min-width:140px } #errors .bar { min-width:190px }
.facts td:first-child { width:32%; color:var(--soft) } .facts td { overflow-wrap:anywhere }
.wide { overflow-x:auto }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; font-size:14px }
th { text-align:left; font-weight:600; font-size:12.5px; color:var(--soft); padding:6px 14px 6px 0;
  border-bottom:1px solid var(--ink); vertical-align:bottom }
td { padding:6px 14px 6px 0; border-bottom:1px solid var(--line); vertical-align:middle }
th:last-child, td:last-child { padding-right:0 }
.num { text-align:right; white-space:nowrap }
tr.ours td { font-weight:600 } tr.ours .note { font-weight:400 } tr.gap td { border-bottom:1px solid var(--ink) }
.mono { font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace; word-break:break-all }
.bar { display:flex; align-items:center; gap:10px } .bar b { font-weight:inherit; min-width:4.2em; text-align:right }
.bar i { flex:1; height:9px; background:var(--wash); display:block }
.bar u { display:block; height:9px; background:var(--theirs) }
.ours .bar u, .bar.ours u { background:var(--ours) }
.tiles { display:grid; grid-template-columns:repeat(4,1fr); gap:24px; margin:28px 0 8px }
.tile b { display:block; font:600 38px/1.1 Charter,"Bitstream Charter",Georgia,"Liberation Serif",serif;
  letter-spacing:-.02em; font-variant-numeric:lining-nums }
.tile span { display:block; color:var(--soft); font-size:13.5px; line-height:1.4; margin-top:4px }
.cards { display:grid; grid-template-columns:repeat(4,1fr); gap:26px 20px; margin-top:14px }
.card img { width:100%; border-radius:2px }
.card h4 { margin:8px 0 6px; font-size:14px; text-align:center; line-height:1.25 }
.guess { position:relative; font-size:12px; line-height:20px; margin-top:2px; display:flex;
  justify-content:space-between; padding:0 5px; background:var(--wash) }
.guess i { position:absolute; left:0; top:0; bottom:0; background:#c9d8ea } .guess.true i { background:var(--hit) }
.guess span { position:relative; white-space:nowrap; overflow:hidden; text-overflow:ellipsis }
.guess.true span { font-weight:600 }
.guess span:last-child { padding-left:6px; flex:none }
.neighbours { display:grid; grid-template-columns:repeat(7,1fr); gap:14px 10px; margin-top:14px }
.neighbours img { width:100%; border-radius:2px } .neighbours .query { padding-right:12px; font-weight:600 }
.neighbours span { display:block; font-size:12px; line-height:1.3; margin-top:3px; padding:0 4px; text-align:center }
.neighbours .same span { background:var(--hit) }
.columns { display:grid; grid-template-columns:1fr 1fr; gap:12px 44px; align-items:start }
.columns > *, .tiles > *, .cards > *, .neighbours > * { min-width:0 }
.columns.mean { grid-template-columns:256px 1fr }
.tall { max-height:640px; overflow-y:auto }
.tall th { position:sticky; top:0; background:#fff; z-index:1 }
.swatch { display:block; height:16px; min-width:150px; border-radius:2px }
summary { cursor:pointer; color:var(--soft); margin-top:16px } details table { margin-top:8px }
@media (max-width:720px) { main { padding:28px 16px 40px } h1 { font-size:28px } section { margin-top:40px }
  .tiles,.cards { grid-template-columns:1fr 1fr } .columns,.columns.mean { grid-template-columns:1fr }
  .neighbours { gap:10px 6px } th,td { padding-right:10px } th.num { white-space:normal }
  #errors td:first-child { width:auto }
  .bar, td .bar, #errors .bar { display:block; min-width:68px } .bar b { display:block; text-align:left } }
@media (max-width:480px) { .neighbours { grid-template-columns:repeat(4,1fr) } .neighbours .query { grid-row:span 2 } }
@media print { section { break-inside:avoid } .tall { max-height:none } }
"""


def document(title: str, body: str) -> str:
    """Wrap a body into a whole document that may load nothing but its own data."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(name: str, title: str, *parts: str) -> str:
    """Make a section; `name` is its anchor."""
    return (
        f'<section id="{name}">\n<h2>{escape(title)}</h2>\n'
        + "\n".join(part for part in parts if part)
        + "\n</section>"
    )


def text(content: str, kind: Literal["", "lead", "note"] = "") -> str:
    """Make a paragraph of plain text."""
    return f'<p class="{kind}">{escape(content)}</p>'


def data_uri(content: bytes, media: Literal["image/png", "image/jpeg"]) -> str:
    """Inline a picture."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def figure(content: bytes, alt: str, caption: str, density: int = 2) -> str:
    """Show a PNG picture with its caption.

    Args:
        content: the PNG file.
        alt: what is to be seen, for those who cannot see it.
        caption: plain text.
        density: its pixels to a CSS pixel; 2 is crisp on fine screens.
    """
    width = int.from_bytes(content[16:20], "big") // density  # the width stands first in the IHDR chunk
    picture = f'<img src="{data_uri(content, "image/png")}" alt="{escape(alt)}" width="{width}">'
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def percent(fraction: float) -> str:
    """Write a fraction as percent with one decimal."""
    return f"{100 * fraction:.1f}\u00a0%"


def bar(fraction: float, ours: bool = False) -> str:
    """Draw a share as a number and a bar."""
    width = f"{100 * min(max(fraction, 0.0), 1.0):.1f}%"
    kind = "bar ours" if ours else "bar"
    return f'<span class="{kind}"><b>{percent(fraction)}</b><i><u style="width:{width}"></u></i></span>'


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], classes: Sequence[str] = (), tall: bool = False
) -> str:
    """Make a table; where the page is narrower than the table, the table scrolls and not the page.

    Args:
        headings: column titles, plain text; one that starts with "#" is of a column of numbers.
        rows: cells as HTML.
        classes: CSS class of each row, none by default.
        tall: show a part of the rows and a scroll bar.
    """
    numeric = [' class="num"' if heading.startswith("#") else "" for heading in headings]
    head = "".join(f"<th{n}>{escape(h.lstrip('#'))}</th>" for h, n in zip(headings, numeric, strict=True))
    lines = []
    for number, row in enumerate(rows):
        kind = f' class="{classes[number]}"' if classes and classes[number] else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td{n}>{c}</td>" for c, n in zip(row, numeric, strict=True)) + "</tr>")
    body = "\n".join(lines)
    kind = "wide tall" if tall else "wide"
    return f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Make a table of names and plain-text values without headings."""
    rows = "\n".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in pairs)
    return f'<table class="facts"><tbody>\n{rows}\n</tbody></table>'
