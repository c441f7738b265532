"""How long a text is, what it costs, and why. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import smsutil

GSM: Final = "gsm7"
UNICODE: Final = "ucs2"
UTF8: Final = "utf8"
SHOWN: Final = 5
"""So many characters outside the GSM alphabet are named; a text with more is in another script."""


@dataclass(frozen=True, slots=True)
class Length:
    """`parts` are the messages that an SMS is split into; 1 for every other channel."""

    characters: int
    encoding: str
    parts: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A text as it would go on a channel: with `version` 0 as shipped, None not stored yet. `cost` is that of
    one message; `notes` say in words what an operator should know; `reason` is why it could not go."""

    channel: str
    language: str
    version: int | None
    length: Length
    cost: Decimal | None
    reason: str | None
    notes: Sequence[str]
    text: str = field(repr=False)
    subject: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)


def sms_length(text: str) -> Length:
    split = smsutil.split(text)
    encoding = GSM if not text or smsutil.is_valid_gsm(text) else UNICODE
    return Length(len(text), encoding, max(1, len(split.parts)))


def plain_length(text: str) -> Length:
    return Length(len(text), UTF8, 1)


def sms_notes(text: str) -> list[str]:
    """Why an SMS has as many parts as it has, if a few characters decide it."""
    length = sms_length(text)
    if length.encoding == GSM:
        return [f"{length.parts} parts of up to 153 characters"] if length.parts > 1 else []
    odd = [char for char in dict.fromkeys(text) if not smsutil.is_valid_gsm(char)]
    if len(odd) > SHOWN:
        return [f"letters outside the GSM alphabet: {_parts(length.parts)} of up to 70 characters"]
    instead = sms_length("".join("x" if char in odd else char for char in text)).parts
    names = ", ".join(f"'{char}'" if unicodedata.category(char)[0] in "LNPS" else _code(char) for char in odd)
    verb = "is" if len(odd) == 1 else "are"
    if instead == length.parts:
        return [f"{names} {verb} not in the GSM alphabet, but that makes no part more"]
    return [f"{names} {verb} not in the GSM alphabet: {_parts(length.parts)} instead of {instead}"]


def _parts(count: int) -> str:
    return "1 part" if count == 1 else f"{count} parts"


def _code(char: str) -> str:
    return f"U+{ord(char):04X}"
