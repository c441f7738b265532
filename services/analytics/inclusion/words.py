"""The reason for the next effort, in words, in the languages that people work in.

Each text has the plural forms of its language (CLDR: `one` is 1 in English; 0 and 1 in Hindi).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from services.analytics.core.coverage.domain import Reason
from services.shared.contracts.vocabulary import Language


class Text(NamedTuple):
    one: str
    other: str


TEXTS: Final[dict[Language, dict[Reason, Text]]] = {
    Language.ENGLISH: {
        "follow_up": Text(
            "{n} woman was invited and has not joined yet: follow up",
            "{n} women were invited and have not joined yet: follow up",
        ),
        "invite": Text(
            "{n} woman has a seat and no invitation yet: invite her",
            "{n} women have a seat and no invitation yet: invite them",
        ),
        "seat": Text(
            "{n} registered woman has no seat in a group: give her one",
            "{n} registered women have no seat in a group: give them one",
        ),
        "open_group": Text(
            "{n} registered woman has no live group here: open one",
            "{n} registered women have no live group here: open one",
        ),
        "register": Text(
            "{n} more woman would meet the target of {target}%: register her",
            "{n} more women would meet the target of {target}%: register them",
        ),
        "first": Text(
            "no woman is registered yet: find the first",
            "no woman is registered yet: {n} would meet the target of {target}%",
        ),
    },
    Language.HINDI: {
        "follow_up": Text(
            "{n} महिला को बुलावा गया है, वे अभी जुड़ी नहीं हैं: उनसे बात करें",
            "{n} महिलाओं को बुलावा गया है, वे अभी जुड़ी नहीं हैं: उनसे बात करें",
        ),
        "invite": Text(
            "{n} महिला के लिए जगह है, बुलावा अभी नहीं गया: बुलावा भेजें",
            "{n} महिलाओं के लिए जगह है, बुलावा अभी नहीं गया: बुलावा भेजें",
        ),
        "seat": Text(
            "{n} पंजीकृत महिला को समूह में जगह नहीं मिली है: जगह दें",
            "{n} पंजीकृत महिलाओं को समूह में जगह नहीं मिली है: जगह दें",
        ),
        "open_group": Text(
            "{n} पंजीकृत महिला के लिए यहाँ कोई चालू समूह नहीं है: समूह शुरू करें",
            "{n} पंजीकृत महिलाओं के लिए यहाँ कोई चालू समूह नहीं है: समूह शुरू करें",
        ),
        "register": Text(
            "{target}% के लक्ष्य के लिए {n} महिला और चाहिए: उन्हें जोड़ें",
            "{target}% के लक्ष्य के लिए {n} महिलाएँ और चाहिए: उन्हें जोड़ें",
        ),
        "first": Text(
            "अभी कोई महिला पंजीकृत नहीं है: पहली को जोड़ें",
            "अभी कोई महिला पंजीकृत नहीं है: {target}% के लक्ष्य के लिए {n} चाहिए",
        ),
    },
}


def in_words(reason: Reason, n: int, target: float | None, language: Language) -> str:
    text = TEXTS[language][reason]
    is_one = n == 1 or (n == 0 and language is Language.HINDI)
    percent = f"{100 * (target or 0):.4g}"
    return (text.one if is_one else text.other).format(n=n, target=percent)
