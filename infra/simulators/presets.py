"""Presets: what a crowd of recipients does when nobody steers, decided by a seed and the recipient alone.

The same seed gives the same people: who is not on WhatsApp, whose SIM is gone, who answers STOP.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

_WHOLE: Final = 2**64


class Fate(StrEnum):
    """How a message ends; each gateway has its own words for it."""

    READ = "read"
    DELIVERED = "delivered"
    UNREACHABLE = "unreachable"
    """Not on WhatsApp, a number that does not exist, an unknown mailbox."""
    FAILED = "failed"
    """Not delivered this time: a limit, a phone that is off, a full mailbox."""
    SILENT = "silent"
    """Taken, and never heard of again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Shares of a crowd, each from 0 to 1, and how fast it all goes.

    `delivered`   delivered in the end; `read` is the share of them who read it
    `unreachable` never reachable: the same people every time
    `failed`      fails this time
    `silent`      no status at all; together with the shares above at most 1, the rest is silent too
    `replies`     text to the share of readers who answer it
    `pace`        seconds from taking to the first status and from one to the next, varied by half
    `latency`     seconds before an answer, varied by half
    `withheld`    share of people who have a username and whose phone WhatsApp does not tell
    """

    name: str
    delivered: float = 1.0
    read: float = 0.0
    unreachable: float = 0.0
    failed: float = 0.0
    silent: float = 0.0
    replies: tuple[tuple[str, float], ...] = ()
    pace: float = 0.02
    latency: float = 0.0
    withheld: float = 0.0

    def fate(self, seed: int, recipient: str, message: str) -> Fate:
        """How `message` to `recipient` ends."""
        if chance(seed, "unreachable", recipient) < self.unreachable:
            return Fate.UNREACHABLE
        reachable = 1 - self.unreachable
        drawn = chance(seed, "fate", recipient, message) * (reachable or 1.0)
        if drawn < self.failed:
            return Fate.FAILED
        if drawn < self.failed + self.silent:
            return Fate.SILENT
        if drawn < self.failed + self.silent + self.delivered:
            return Fate.READ if chance(seed, "read", recipient, message) < self.read else Fate.DELIVERED
        return Fate.SILENT

    def reply(self, seed: int, recipient: str) -> str | None:
        """The answer of a reader, or None."""
        if not self.replies:
            return None
        drawn = chance(seed, "reply", recipient)
        for text, share in self.replies:
            if drawn < share:
                return text
            drawn -= share
        return None


def chance(seed: int, *of: str) -> float:
    """A number from 0 to 1 that depends on nothing but its arguments."""
    text = "\0".join((str(seed), *of)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / _WHOLE


PRESETS: Final = {
    preset.name: preset
    for preset in (
        Preset(name="clean"),
        Preset(
            name="demo",
            delivered=0.92,
            read=0.5,
            unreachable=0.04,
            failed=0.03,
            silent=0.01,
            replies=(("STOP", 0.01), ("रोकें", 0.01), ("kya hua", 0.02), ("हाँ", 0.03)),
            pace=0.05,
            latency=0.01,
            withheld=0.1,
        ),
        Preset(name="silent", delivered=0.0, silent=1.0),
        Preset(name="failing", delivered=0.0, failed=1.0),
        Preset(name="unreachable", delivered=0.0, unreachable=1.0),
    )
}


def preset_named(name: str, *, pace: float | None = None) -> Preset:
    """One of `PRESETS`, at another pace if given.

    Raises: `KeyError`.
    """
    preset = PRESETS[name]
    return preset if pace is None else replace(preset, pace=pace)
