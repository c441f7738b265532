"""E-mails: the shipped texts as HTML, and what an e-mail says to a reader without HTML. Pure."""

from __future__ import annotations

import html as entities
import re
from collections.abc import Mapping
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
_ANCHOR: Final = re.compile(r"""<a\s[^<>]*?href=(?:"([^"]*)"|'([^']*)')[^<>]*>(.*?)</a>""", re.DOTALL | re.I)
_UNSEEN: Final = re.compile(r"<(style|title)[^<>]*>.*?</\1>", re.DOTALL | re.I)
_BREAK: Final = re.compile(r"<br[^<>]*>|</(?:li|tr)>", re.I)
_END: Final = re.compile(r"</(?:p|div|h[1-6]|table|ul|ol|blockquote)>", re.I)
_TAG: Final = re.compile(r"<[^<>]*>")


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
    """Take the words out of an e-mail's HTML, for a reader of plain text: links follow their words.

    `html` has passed `markup_fault`, so its tags are in the simple form that is taken apart here.
    """
    html = _ANCHOR.sub(_written_out, _UNSEEN.sub("", html))
    html = " ".join(html.split())
    html = _END.sub("\n\n", _BREAK.sub("\n", html))
    lines = [line.strip() for line in entities.unescape(_TAG.sub("", html)).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _written_out(found: re.Match[str]) -> str:
    target, label = found[1] or found[2] or "", found[3]
    return label if target in label or not target else f"{label}: {target}"
