"""The names of texts, and the variables that each may use. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.shared.contracts.notifications import INVITE, PROMISED
from services.shared.contracts.vocabulary import Language, Purpose

FALLBACK: Final = Language.HINDI.value
"""The language of readers of Bihar's other languages too."""
LANGUAGES: Final = (Language.HINDI, Language.ENGLISH, Language.BHOJPURI, Language.MAITHILI)
"""Languages in which a text can be written; whoever speaks another one gets it in Hindi."""
TEST: Final = "test_"
"""The beginning of a notification's template that marks it as a test of a text."""


@dataclass(frozen=True, slots=True)
class Known:
    """`variables` are those that a text may use, `consent` is the purpose whose consent a test of it needs.
    `answers`: it answers what the person has just sent, so WhatsApp takes it without an approved template."""

    variables: tuple[str, ...]
    consent: str = Purpose.WELCOME.value
    answers: bool = False


_INVITING: Final = Known(("name", "group", "link"))
NAMES: Final[Mapping[str, Known]] = {
    "welcome": _INVITING,
    "welcome_no_invite": Known(("name", "group")),
    "welcome_no_group": Known(("name",)),
    INVITE: Known(("name", "group", "link"), Purpose.REMINDER.value),
    PROMISED: _INVITING,
    "stopped": Known(("name",), answers=True),
    "code": Known(("code", "minutes")),
}
"""The texts that the service sends by itself."""
OTHER: Final = Known(("name", "group", "link"), Purpose.BROADCAST.value)
"""A text of an operator's own, for a broadcast."""

_SAMPLES: Final[Mapping[str, Mapping[str, str]]] = {
    "name": {"hi": "आशा देवी", "en": "Asha Devi"},
    "group": {"hi": "सारण समूह", "en": "Saran group"},
    "link": {"en": "https://example.org/g/7Kd2"},
    "code": {"en": "482913"},
    "minutes": {"en": "10"},
    "unsubscribe": {"en": "https://example.org/unsubscribe/7Kd2"},
}


UNSUBSCRIBE: Final = "unsubscribe"
"""The variable of the HTML of e-mails alone: the address that stops them, empty where there is none."""


def known(name: str) -> Known:
    return NAMES.get(name, OTHER)


def samples(name: str, language: str) -> dict[str, str]:
    """A value for each variable of a text, in its language."""
    of = {variable: _SAMPLES[variable] for variable in (*known(name).variables, UNSUBSCRIBE)}
    return {
        variable: words.get(language) or words.get(FALLBACK) or words["en"] for variable, words in of.items()
    }


def is_test(template: str) -> bool:
    return template.startswith(TEST)


def consent_of(purpose: str, template: str) -> str:
    """The purpose that the person must have agreed to, and not have stopped."""
    return known(template.removeprefix(TEST)).consent if is_test(template) else purpose
