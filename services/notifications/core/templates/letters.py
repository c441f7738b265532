"""E-mails: the shipped texts as HTML, and what an e-mail says to a reader without HTML. Pure."""

from __future__ import annotations

import html as entities
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Final

from services.notifications.core.templates.domain import Wording

SUBJECTS: Final[Mapping[str, Mapping[str, str]]] = {
    "welcome": {"en": "Welcome to {{ group }}", "hi": "{{ group }} में आपका स्वागत है"},
    "welcome_no_invite": {"en": "Welcome to {{ group }}", "hi": "{{ group }} में आपका स्वागत है"},
    "welcome_no_group": {"en": "Welcome", "hi": "आपका स्वागत है"},
    "invite": {"en": "Your place in {{ group }} is still open", "hi": "{{ group }} में आपकी जगह सुरक्षित है"},
    "promised_invite": {"en": "Your invitation to {{ group }}", "hi": "{{ group }} का आपका निमंत्रण"},
    "stopped": {"en": "Our e-mails have stopped", "hi": "हमारे ई-मेल बंद कर दिए गए हैं"},
    "code": {"en": "Your code", "hi": "आपका कोड"},
}
REPLY_STOP: Final = {
    "en": "To receive no more messages, reply STOP.",
    "hi": "आगे संदेश न पाने के लिए STOP लिखकर भेजें।",
}
"""The end of a text. Nobody reads the answers to an e-mail, so there a link takes its place."""
UNSUBSCRIBE: Final = {
    "en": "To receive no more e-mails of this kind, open this link",
    "hi": "आगे ऐसे ई-मेल न पाने के लिए यह लिंक खोलें",
}
_BODY: Final = "font-family: sans-serif; font-size: 16px; line-height: 1.5; color: #1a1a1a; max-width: 36em"
_FOOT: Final = "font-size: 14px; color: #595959"
_LINK: Final = re.compile(r"\{\{\s*link\s*\}\}")
_UNSEEN: Final = frozenset(("style", "title"))
_BLOCKS: Final = frozenset(
    ("p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "blockquote", "center")
)


def as_letter(name: str, language: str, text: str) -> Wording:
    """A shipped text with the subject and the HTML that it has as an e-mail; one without a subject has
    neither."""
    if language not in SUBJECTS.get(name, {}):
        return Wording(text)
    said = text.removesuffix(REPLY_STOP[language]).rstrip()
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", said)]
    link = _anchor("link", "{{ link }}")
    body = "".join(f"<p>{_LINK.sub(link, entities.escape(part))}</p>" for part in paragraphs)
    foot = _anchor("unsubscribe", UNSUBSCRIBE[language])
    return Wording(
        text,
        SUBJECTS[name][language],
        f'<!doctype html><html lang="{language}"><body><div style="{_BODY}">{body}'
        f'{{% if unsubscribe %}}<p style="{_FOOT}">{foot}</p>{{% endif %}}</div></body></html>',
    )


def _anchor(variable: str, label: str) -> str:
    return f'<a href="{{{{ {variable} }}}}">{label}</a>'


def plain_of(html: str) -> str:
    """Take the words out of an e-mail's HTML, for a reader of plain text: links follow their words."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return re.sub(
        r"\n{3,}", "\n\n", re.sub(r" *\n *", "\n", re.sub(r" +", " ", "".join(reader.said)))
    ).strip()


class _Reader(HTMLParser):
    """`said` is what a reader sees, with line feeds where an element ends."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._unseen = 0
        self._links: list[tuple[str, int]] = []
        """The target of each link that is open, and where its words begin."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in _UNSEEN
        if tag == "br":
            self.said.append("\n")
        elif tag == "a":
            self._links.append((dict(attrs).get("href") or "", len(self.said)))

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN
        if tag == "a" and self._links:
            target, begin = self._links.pop()
            if target and target not in "".join(self.said[begin:]):
                self.said.append(f": {target}")
        elif tag in ("li", "tr"):
            self.said.append("\n")
        elif tag in ("td", "th"):
            self.said.append(" ")
        elif tag in _BLOCKS:
            self.said.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.said.append(re.sub(r"\s+", " ", data))
