"""Self-contained HTML page of an audit's findings, with the images side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape

from PIL import Image, ImageOps

from agr_core.data.audit.images import Images
from agr_core.data.audit.report import Audit
from agr_core.data.decode import openable
from agr_core.data.readers import Skipped

_SHOWN_GROUPS = 200
_SHOWN_IN_GROUP = 12
_SHOWN_LINES = 500
_PICTURE_SIDE = 128
_PICTURE_QUALITY = 80

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; background: #f3f5f8; margin: 0 auto; max-width: 1240px;
  padding: 20px; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 0 0 8px; } .quiet { color: #5b6875; font-size: 13px; } a { color: #1f5fa8; }
nav { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 8px; margin: 14px 0; }
nav a { background: #fff; border: 1px solid #dde3ea; border-radius: 8px; padding: 8px 12px; text-decoration: none;
  color: inherit; font-size: 13px; } nav b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
nav .fault b { color: #b42318; } .verdict { font-weight: 600; } .verdict.fault { color: #b42318; }
.verdict.passed { color: #2f855a; }
section { background: #fff; border: 1px solid #dde3ea; border-radius: 8px; padding: 14px; margin: 14px 0; }
.groups { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); gap: 10px; }
.group { border: 1px solid #edf0f4; border-radius: 6px; padding: 8px; min-width: 0; }
.pictures { display: flex; flex-wrap: wrap; gap: 8px; } figure { margin: 0; width: 128px; }
figure img { width: 128px; height: 128px; object-fit: contain; background: #edf0f4; border-radius: 4px;
  display: block; }
figcaption { font-size: 12px; line-height: 1.35; overflow-wrap: anywhere; margin-top: 3px; }
figcaption b { font-weight: 600; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: 3px 8px 3px 0; border-bottom: 1px solid #edf0f4; overflow-wrap: anywhere;
  font-size: 13px; } .scroll { overflow-x: auto; }
"""


def audit_page(audit: Audit, images: Images, source: str) -> str:
    """Return the page as HTML; it loads no external resources and adapts to the window's width.

    Args:
        audit: The findings.
        images: The audited images, which are shown on the page.
        source: Name of the data set in the heading.
    """
    gallery = _Gallery(audit, images)
    differences = {frozenset((pair.first, pair.second)): pair for pair in audit.examined.near}

    def how_near(rows: Sequence[int]) -> str:
        pairs = [
            differences[key] for key in (frozenset((a, b)) for a in rows for b in rows if a < b) if key in differences
        ]
        return ", ".join(f"{'mirrored, ' if pair.mirrored else ''}difference {pair.difference:.3f}" for pair in pairs)

    conflicts = {conflict.rows: conflict.labels for conflict in (*audit.label_conflicts, *audit.near_label_conflicts)}
    sections = [
        _section(
            "sides", "On several sides of the split", "What is trained on is evaluated on.",
            gallery.groups([*audit.cross_split, *audit.near_cross_split], how_near),
        ),
        _section(
            "conflicts", "Contradicting labels", "One picture, or one subject, under different labels.",
            gallery.groups(list(conflicts), lambda rows: f"{', '.join(conflicts[tuple(rows)])} differ"),
        ),
        _section(
            "near", "Near-duplicates", "Different files that show one picture, compared by their pixels.",
            gallery.groups(audit.near, how_near),
        ),
        _section("identical", "Byte-identical images", "", gallery.groups(audit.duplicates, lambda _: "")),
        _section(
            "single", "Labels that occur once", "Nothing can be learned of them and evaluated too.",
            _table(("label", "value", "file"), [(o.label, o.value, audit.file(o.row)) for o in audit.single_labels]),
        ),
        _section("odd", "Tiny and thin images", "", gallery.groups([(row,) for row in _odd(audit)], gallery.size)),
        _section("unreadable", "Unreadable files", "", _skipped(audit.examined.unreadable)),
        _section("names", "Names and labels that do not parse", "", _skipped(audit.examined.bad_names)),
        _section(
            "missing", "Classes missing from a part", "",
            _table(
                ("part", "label", "class", "images in all parts"),
                [(o.part, o.label, o.value, f"{o.images:,}") for o in audit.missing_classes],
            ),
        ),
        _section(
            "shift", "Shift from training", "Total variation: 0 is equal shares of the classes, 1 no class in common.",
            _table(
                ("part", "label", "total variation", "p-value", ""),
                [
                    (o.part, o.label, f"{o.distance:.3f}", f"{o.p_value:.2g}", "shifted" if o.shifted else "")
                    for o in audit.shift
                ],
            ),
        ),
    ]  # fmt: skip
    if audit.faces is not None:
        none, several = list(audit.faces.none), dict(audit.faces.several)
        sections += [
            _section("noface", "No face found", "", gallery.groups([(row,) for row in none], lambda _: "")),
            _section(
                "faces", "Several faces", "",
                gallery.groups([(row,) for row in several], lambda rows: f"{several[rows[0]]} faces"),
            ),
        ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of {escape(source)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Audit of {escape(source)}</h1>{_verdict(audit)}{_summary(audit)}{''.join(sections)}</body></html>\n"
    )


class _Gallery:
    """Images of an audit with their labels."""

    def __init__(self, audit: Audit, images: Images) -> None:
        self._audit = audit
        self._images = images
        self._figures: dict[int, str] = {}

    def groups(self, groups: Sequence[Sequence[int]], title: Callable[[Sequence[int]], str]) -> str:
        """Return a box for each group; limited to the first groups, and to the first images of a group."""
        boxes = [self._group(rows, title(rows)) for rows in groups[:_SHOWN_GROUPS]]
        rest = len(groups) - len(boxes)
        more = f'<p class="quiet">and {rest:,} more groups, which --json lists</p>' if rest else ""
        return f'<div class="groups">{"".join(boxes)}</div>{more}' if boxes else ""

    def size(self, rows: Sequence[int]) -> str:
        """Return width and height of the first image."""
        width, height = self._audit.examined.sizes[rows[0]]
        return f"{width} x {height} pixels"

    def _group(self, rows: Sequence[int], title: str) -> str:
        pictures = "".join(self._figure(row) for row in rows[:_SHOWN_IN_GROUP])
        rest = len(rows) - _SHOWN_IN_GROUP
        more = f'<p class="quiet">and {rest:,} more images</p>' if rest > 0 else ""
        heading = f'<p class="quiet">{escape(title)}</p>' if title else ""
        return f'<div class="group">{heading}<div class="pictures">{pictures}</div>{more}</div>'

    def _figure(self, row: int) -> str:
        if row not in self._figures:
            audit = self._audit
            words = ", ".join(str(value) for value in audit.labels(row).values() if value is not None)
            part = "" if audit.parts is None else f" · {escape(str(audit.parts[row]).replace('_', ' '))}"
            name = audit.file(row)
            self._figures[row] = (
                f'<figure><img src="{self._picture(row)}" alt="{escape(name)}" loading="lazy">'
                f"<figcaption><b>{escape(words)}{part}</b><br>{escape(name)}</figcaption></figure>"
            )
        return self._figures[row]

    def _picture(self, row: int) -> str:
        data = self._images.read([int(self._audit.examined.rows[row])])[0]
        assert isinstance(data, bytes), "it was read when it was examined"
        with Image.open(io.BytesIO(data), formats=openable()) as image:
            image.draft("RGB", (_PICTURE_SIDE, _PICTURE_SIDE))
            small = ImageOps.exif_transpose(image).convert("RGB")
        small.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=_PICTURE_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"


def _odd(audit: Audit) -> list[int]:
    return sorted({*audit.examined.tiny.tolist(), *audit.examined.thin.tolist()})


def _verdict(audit: Audit) -> str:
    if audit.passed:
        return '<p class="verdict passed">Passed: nothing leaks, and no label contradicts another.</p>'
    findings = f"{audit.leaks:,} groups on several sides of the split, {audit.conflicts:,} with contradicting labels"
    return f'<p class="verdict fault">Not passed: {findings}.</p>'


def _summary(audit: Audit) -> str:
    figures = [
        ("", "images", len(audit.table), False),
        ("sides", "groups on several sides", audit.leaks, audit.leaks > 0),
        ("conflicts", "contradicting labels", audit.conflicts, audit.conflicts > 0),
        ("near", "groups of near-duplicates", len(audit.near), False),
        ("identical", "groups of identical images", len(audit.duplicates), False),
        ("unreadable", "unreadable files", len(audit.examined.unreadable), False),
        ("names", "names that do not parse", len(audit.examined.bad_names), False),
        ("odd", "tiny or thin images", len(_odd(audit)), False),
        ("single", "labels that occur once", len(audit.single_labels), False),
    ]
    cards = (
        f'<a href="#{anchor}"{" class=fault" if fault else ""}><b>{count:,}</b>{escape(name)}</a>'
        for anchor, name, count, fault in figures
    )
    return f"<nav>{''.join(cards)}</nav>"


def _section(anchor: str, title: str, text: str, content: str) -> str:
    """Return a section; an empty one states that nothing was found, so that every link of the summary works."""
    note = f'<p class="quiet">{escape(text)}</p>' if text else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{note}{content or "<p>none</p>"}</section>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows[:_SHOWN_LINES])
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    rest = len(rows) - _SHOWN_LINES
    more = f'<p class="quiet">and {rest:,} more, which --json lists</p>' if rest > 0 else ""
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>{more}'


def _skipped(entries: Iterable[Skipped]) -> str:
    return _table(("file", "reason"), [(entry.file, entry.reason) for entry in entries])
