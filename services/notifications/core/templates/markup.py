"""The HTML that an e-mail may have: what readers of e-mail show anyway, closed in order, and nothing that
runs, loads or sends. Pure.

The bounds also keep the library that inlines styles from deep trees, which cost it seconds or its stack.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

MAX_ELEMENTS: Final = 1000
MAX_DEPTH: Final = 40
MAX_STYLES: Final = 10_000
VOID: Final = frozenset(("br", "hr", "img"))
ELEMENTS: Final = VOID | frozenset(
    (
        *("html", "head", "title", "style", "body", "div", "p", "span", "a", "b", "strong", "i", "em", "u"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "small", "blockquote", "center"),
        *("table", "thead", "tbody", "tfoot", "tr", "td", "th"),
    )
)
ATTRIBUTES: Final = frozenset(
    (
        *("class", "style", "href", "src", "alt", "title", "lang", "dir", "role", "align", "valign", "width"),
        *("height", "border", "cellpadding", "cellspacing", "bgcolor", "color", "colspan", "rowspan"),
    )
)
_LINK: Final = re.compile(r"\s*(https?://|mailto:|\{\{\s*link\s*\}\}\s*$)", re.IGNORECASE)
_STYLE: Final = re.compile(r"[<\\@]|\{\{|\{%|url\s*\(|expression|javascript", re.IGNORECASE)
_QUOTED: Final = re.compile(r"\"[^\"]*\"|'[^']*'")
_DOCTYPE: Final = re.compile(r"\s*<!doctype html>", re.IGNORECASE)


def markup_fault(html: str) -> str | None:
    """What is wrong with it, if anything."""
    html = _DOCTYPE.sub("", html, count=1)
    if "<!" in html or "<?" in html:
        return "must have no comments and declarations but <!doctype html> at its beginning"
    if html.count("<") > 2 * MAX_ELEMENTS:
        return f"must have at most {MAX_ELEMENTS} elements"
    reader = _Reader()
    try:
        reader.feed(html)
        reader.close()
        if reader.open:
            return "must close each element, in order"
    except _FoundError as found:
        return str(found)
    except (AssertionError, ValueError):  # the parser's own, about marked sections and the like
        return "is not valid HTML"
    return None


class _FoundError(Exception):
    pass


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[str] = []
        self._styles = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ELEMENTS:
            raise _FoundError(f"must have no elements but {', '.join(sorted(ELEMENTS))}")
        for name, value in attrs:
            self._check(name, value or "")
        if "{{" in _QUOTED.sub("", self.get_starttag_text() or ""):
            raise _FoundError("must have quotes around a value in an attribute")
        if tag not in VOID:
            self.open.append(tag)
            if len(self.open) > MAX_DEPTH:
                raise _FoundError(f"must have at most {MAX_DEPTH} elements within each other")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            raise _FoundError("must close each element by a tag of its own")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise _FoundError("must close each element, in order")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self._check_style(data)

    def _check(self, name: str, value: str) -> None:
        if name not in ATTRIBUTES:
            raise _FoundError(f"must have no attributes but {', '.join(sorted(ATTRIBUTES))}")
        if name in ("href", "src") and not _LINK.match(value):
            raise _FoundError("must link by https, http, mailto or {{ link }}")
        if name == "style":
            self._check_style(value)

    def _check_style(self, style: str) -> None:
        self._styles += len(style)
        if self._styles > MAX_STYLES:
            raise _FoundError(f"must have at most {MAX_STYLES:,} characters of styles")
        if _STYLE.search(style):
            raise _FoundError("must have styles without variables, imports, escapes and addresses")
