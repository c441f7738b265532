"""The HTML that an e-mail may have: what readers of e-mail show anyway, closed in order, and nothing that
runs, loads or sends. Pure.

The bounds also keep the library that inlines styles from deep trees, which cost it seconds or its stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
_LINK: Final = re.compile(r"\s*(https?://|mailto:|\{\{\s*(link|unsubscribe)\s*\}\}\s*$)", re.IGNORECASE)
_STYLE: Final = re.compile(r"[<\\@]|\{\{|\{%|url\s*\(|expression|javascript", re.IGNORECASE)
_TAG: Final = re.compile(
    r"""<(/?)([a-z][a-z0-9]{0,11})((?:\s{1,20}[a-z]{1,20}="[^"<>]*"|\s{1,20}[a-z]{1,20}='[^'<>]*')*)\s{0,20}/?>""",
    re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(r"""([a-z]{1,20})=(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_DOCTYPE: Final = re.compile(r"\s*<!doctype html>", re.IGNORECASE)


class _FaultError(Exception):
    pass


def markup_fault(html: str) -> str | None:
    """Find what is wrong with it, if anything. Every `<` must begin a tag in a simple form, so it takes
    time in proportion to the length, and no reader finds tags where this one finds none."""
    if doctype := _DOCTYPE.match(html):
        html = html[doctype.end() :]
    try:
        _check(html)
    except _FaultError as fault:
        return str(fault)
    return None


def _check(html: str) -> None:
    """Raises: `_FaultError`."""
    if html.count("<") > 2 * MAX_ELEMENTS:
        raise _FaultError(f"must have at most {MAX_ELEMENTS} elements")
    open_, styles = list[str](), list[str]()
    at = html.find("<")
    while at >= 0:
        tag = _TAG.match(html, at)
        if tag is None:
            raise _FaultError('must write each tag in the form of <a href="...">, and < itself as &lt;')
        closes, name, attributes = tag[1], tag[2].lower(), tag[3]
        at = html.find("<", tag.end())
        if name not in ELEMENTS:
            raise _FaultError(f"must have no elements but {', '.join(sorted(ELEMENTS))}")
        if closes:
            if attributes or not open_ or open_.pop() != name:
                raise _FaultError("must close each element, in order")
            continue
        styles += _styles_of(attributes)
        if name == "style":
            styles.append(html[tag.end() : max(at, 0)])
        if name not in VOID:
            open_.append(name)
        if len(open_) > MAX_DEPTH:
            raise _FaultError(f"must have at most {MAX_DEPTH} elements within each other")
    if open_:
        raise _FaultError("must close each element, in order")
    if sum(map(len, styles)) > MAX_STYLES:
        raise _FaultError(f"must have at most {MAX_STYLES:,} characters of styles")
    if any(_STYLE.search(style) for style in styles):
        raise _FaultError("must have styles without variables, imports, escapes and addresses")


def _styles_of(attributes: str) -> Iterator[str]:
    """The values of `style` among them. Raises: `_FaultError`."""
    for found in _ATTRIBUTE.finditer(attributes):
        name, value = found[1].lower(), found[2] or found[3] or ""
        if name not in ATTRIBUTES:
            raise _FaultError(f"must have no attributes but {', '.join(sorted(ATTRIBUTES))}")
        if name in ("href", "src") and not _LINK.match(value):
            raise _FaultError("must link by https, http, mailto, {{ link }} or {{ unsubscribe }}")
        if name == "style":
            yield value
