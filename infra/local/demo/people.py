"""Invented members, as `POST /v1/members` takes them; the same seed gives the same people."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = Path(__file__).parents[1] / "sample" / "names.csv"
FIRST_NUMBER = 7_000_000_000
"""Indian mobile numbers have ten digits and begin with 6 to 9 (National Numbering Plan); none are reserved
for fiction."""
MOST = 100_000
NOTICE = "sample-2026-01"

GENDERS = {"male": 50, "female": 43, "undisclosed": 6, "other": 1}
LANGUAGES = {"hi": 56, "bho": 20, "mai": 10, "mag": 9, "ur": 3, "en": 2}
PLATFORMS = {
    "whatsapp": 95,
    "facebook": 55,
    "youtube": 40,
    "instagram": 35,
    "x": 12,
    "telegram": 10,
    "sharechat": 6,
}
CHANNELS = {("whatsapp",): 70, ("whatsapp", "sms"): 12, ("sms",): 6, ("email",): 4, (): 8}
"""Consents to the welcome; 8 % give none and must never be messaged."""
SEVERAL_CHANNELS = {
    ("whatsapp", "sms"): 55,
    ("whatsapp",): 15,
    ("sms",): 10,
    ("whatsapp", "sms", "email"): 6,
    ("email",): 6,
    (): 8,
}
"""The same where messages go by gateways: with a second channel, what fails on the first goes on."""
GROUP_PERCENT = 40
"""Percent of the women who consent to be welcomed who also ask for the women's group of their block."""
LEVELS = {3: 70, 2: 20, 1: 9, 0: 1}
"""Distribution of members by depth of the unit: most at a booth, some working for a whole block or
district."""
SKEW = 0.6
"""Unit sizes fall as 1 / rank ** SKEW."""

Person = dict[str, Any]


@dataclass(frozen=True)
class Names:
    given: Mapping[str, Sequence[str]]
    last: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, path: Path = NAMES) -> Names:
        """Names in Devanagari by gender; last words marked `any` fit both."""
        given: dict[str, list[str]] = {"female": [], "male": []}
        last: dict[str, list[str]] = {"female": [], "male": []}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                lists = given if row["part"] == "given" else last
                for gender in lists if row["gender"] == "any" else (row["gender"],):
                    lists[gender].append(row["devanagari"])
        return cls(given, last)

    def pick(self, chance: random.Random, gender: str) -> str:
        bearer = gender if gender in self.given else chance.choice(tuple(self.given))
        return f"{chance.choice(self.given[bearer])} {chance.choice(self.last[bearer])}"


def people(
    count: int,
    units: Sequence[str],
    seed: int,
    *,
    first: int = 0,
    consents: Mapping[tuple[str, ...], int] = CHANNELS,
) -> Iterator[Person]:
    """`count` members of `units`, numbered from `first`; the number determines the phone number. `consents`
    are the shares of the channels that they consent to."""
    chance = random.Random(seed)  # noqa: S311 (not a secret: the same people every time)
    names = Names.read()
    places = _places(count, units, chance)
    for number, unit in enumerate(places, first):
        gender = _one(chance, GENDERS)
        language = _one(chance, LANGUAGES)
        channels = chance.choices(list(consents), list(consents.values()))[0]
        person: Person = {
            "name": names.pick(chance, gender),
            "phone": f"+91{FIRST_NUMBER + number}",
            "unit": unit,
            "gender": gender,
            "language": language,
            "birth_year": chance.randint(1978, 2006),
            "platforms": [
                {"platform": platform, "handle": f"sample_{number}"}
                for platform, percent in PLATFORMS.items()
                if chance.random() * 100 < percent
            ],
            "consents": [
                {"purpose": "welcome", "channel": channel, "notice": NOTICE, "language": language}
                for channel in channels
            ],
        }
        if channels and gender == "female" and chance.random() * 100 < GROUP_PERCENT:
            asked = {"purpose": "group", "channel": "whatsapp", "notice": NOTICE, "language": language}
            person["consents"].append(asked)
        if "email" in channels:
            person["email"] = f"sample.{number}@example.org"
        yield person


def _places(count: int, units: Sequence[str], chance: random.Random) -> list[str]:
    """Units of each depth, in the proportions of `LEVELS`, a few of them with many members."""
    by_depth: dict[int, list[str]] = {}
    for unit in sorted(units):
        by_depth.setdefault(unit.count("-"), []).append(unit)
    weights: dict[str, float] = {}
    for depth, members in by_depth.items():
        chance.shuffle(members)
        shares = [1 / rank**SKEW for rank in range(1, len(members) + 1)]
        weights |= {u: LEVELS[depth] * share / sum(shares) for u, share in zip(members, shares, strict=True)}
    return chance.choices(list(weights), list(weights.values()), k=count)


def _one(chance: random.Random, weights: Mapping[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]
