"""A document as one HTML file that opens anywhere, offline: style, pictures and whatever its listing holds are inside it."""

from __future__ import annotations

from html import escape

from asrpeft.report import table as tables
from asrpeft.report.document import Document, Finding

_HEAD = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
STYLE = """
:root{color-scheme:light;--ink:#1c1e21;--dim:#5c6370;--line:#d9dce1;--sub:#fdeec2;--del:#fbd5d5;--ins:#d6e6fb}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,"Noto Sans",sans-serif;color:var(--ink);margin:0 auto;max-width:76rem;padding:1.5rem
1.2rem 4rem} h1{font-size:1.6rem;margin:.2rem 0 1rem}
h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{font-weight:600;color:var(--dim);font-size:.85rem}
td.l,th.l{text-align:left;white-space:normal}
.below,.dim{color:var(--dim);font-size:.88rem}
.finding{padding:.55rem .9rem;border-left:4px solid #9aa1ab;background:#f5f6f8;margin:.5rem 0}
.finding.better{border-color:#2c7a2c}
.finding.worse{border-color:#b3261e}
.note{padding:.5rem .9rem;background:#fff8e1;border-left:4px solid #d99a00;margin:.4rem 0}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(27rem,100%),1fr));gap:1rem 1.5rem}
figure{margin:0}
figure svg{max-width:100%;height:auto}
figcaption{font-size:.88rem;color:var(--dim)}
"""


def html(document: Document) -> str:
    """The whole page as text."""
    title = escape(document.title)
    made = document.origin
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en"><head>{_HEAD}<title>{title}</title><style>{STYLE}{document.style}</style></head><body>',
            f"<h1>{title}</h1>",
            *_parts(document),
            *([] if document.listing is None else [document.listing()]),
            *([] if made is None else [tables.html(made)]),
            "</body></html>\n",
        ]
    )


def fragment(document: Document) -> str:
    """Its tables and sentences alone, for a notebook's cell."""
    return "\n".join(_parts(document, pictures=False))


def _parts(document: Document, *, pictures: bool = True) -> list[str]:
    from asrpeft.report.figures import svg  # draws with matplotlib: only a page waits for it

    first, *rest = document.tables or (None,)
    parts = [tables.html(first, titled=False)] if first is not None else []
    parts += [_finding(one) for one in document.findings]
    parts += [f"<p>{escape(line)}</p>" for line in document.lines]
    parts += [f'<p class="note">{escape(note)}</p>' for note in document.notes]
    if document.pictures and pictures:
        parts.append('<h2>Pictures</h2><div class="pictures">')
        for number, one in enumerate(document.pictures):
            drawn, said = _own_ids(svg(one.draw()), f"f{number}-"), escape(one.caption)
            parts.append(f'<figure role="img" aria-label="{said}">{drawn}<figcaption>{said}</figcaption></figure>')
        parts.append("</div>")
    return parts + [tables.html(one) for one in rest]


def _finding(one: Finding) -> str:
    kind = one.verdict if one.verdict in tables.STYLES else "same"
    return f'<p class="finding {kind}">{escape(one.text)}</p>'


def _own_ids(drawn: str, prefix: str) -> str:
    """Ids of one picture must not meet those of another on the same page."""
    return drawn.replace(' id="', f' id="{prefix}').replace('"#', f'"#{prefix}').replace("url(#", f"url(#{prefix}")
