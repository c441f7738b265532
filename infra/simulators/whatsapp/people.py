"""People on WhatsApp as one business sees them: phone, business-scoped id, username, service window.

Source: Meta, "Business-scoped user IDs" (May to September 2026): the id is `CC.` and up to 128 letters and
digits; it is made anew when the user changes the number; the phone may be withheld, and then its keys are
missing.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

BSUID: Final = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}\Z")
WINDOW: Final = 24 * 3600.0
"""Seconds after a user's message or call in which free text may be sent (Meta, "Customer service
windows")."""
_MAX_PEOPLE: Final = 200_000


@dataclass(slots=True)
class Person:
    """One user. `withheld` means that WhatsApp does not tell the phone to the business."""

    phone: str | None
    """E.164 with `+`; None when the business never had it."""
    user_id: str
    name: str = "Asha"
    username: str | None = None
    withheld: bool = False
    stopped_marketing: bool = False
    wrote_at: float | None = None
    """When the user last wrote, by the simulator's clock."""
    former_ids: list[str] = field(default_factory=list)

    @property
    def wa_id(self) -> str | None:
        return self.phone.removeprefix("+") if self.phone else None

    def has_window(self, now: float) -> bool:
        """Whether free text may be sent."""
        return self.wrote_at is not None and now - self.wrote_at < WINDOW

    def contact(self, *, with_phone: bool, with_username: bool = False) -> dict[str, Any]:
        """The person in a `contacts` list."""
        profile = {"name": self.name}
        if with_username and self.username:
            profile["username"] = self.username
        contact: dict[str, Any] = {"profile": profile}
        if with_phone and self.wa_id:
            contact["wa_id"] = self.wa_id
        contact["user_id"] = self.user_id
        return contact


class People:
    """Everybody that the business ever wrote to or heard of; the least recent are forgotten beyond
    200,000."""

    def __init__(self, seed: int, country: str = "IN") -> None:
        self._seed, self._country = seed, country
        self._by_phone: OrderedDict[str, Person] = OrderedDict()
        self._by_id: OrderedDict[str, Person] = OrderedDict()
        self.former: OrderedDict[str, None] = OrderedDict()
        """Ids and numbers that were given up; nothing sent to them arrives."""

    def add(self, person: Person) -> Person:
        """Know a person by every name given."""
        if person.phone:
            self._by_phone[person.phone] = person
        self._by_id[person.user_id] = person
        for held in (self._by_phone, self._by_id):
            while len(held) > _MAX_PEOPLE:
                held.popitem(last=False)
        return person

    def by_phone(self, phone: str) -> Person:
        """The user with this number (E.164 with `+`); a new one if nobody has it."""
        if (person := self._by_phone.get(phone)) is not None:
            return person
        return self.add(Person(phone, self.id_of(phone)))

    def by_id(self, user_id: str) -> Person:
        """The user with this business-scoped id; a new one without a phone if nobody has it."""
        if (person := self._by_id.get(user_id)) is not None:
            return person
        return self.add(Person(None, user_id, withheld=True))

    def find(self, who: str | Person) -> Person:
        """The user by phone, by id, or as given."""
        if isinstance(who, Person):
            return who
        return (
            self.by_id(who) if BSUID.match(who) else self.by_phone(who if who.startswith("+") else f"+{who}")
        )

    def id_of(self, phone: str, generation: int = 0) -> str:
        """The business-scoped id that a number gets: 19 digits, the same for the same seed."""
        text = f"{self._seed}:{phone}:{generation}".encode()
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % 10**19
        return f"{self._country}.{number:019d}"

    def new_id(self, person: Person) -> str:
        """Give a person another id; the former one is nobody's afterwards. Returns the former one."""
        former = person.user_id
        person.former_ids.append(former)
        self._give_up(former)
        person.user_id = self.id_of(person.phone or former, len(person.former_ids))
        self.add(person)
        return former

    def new_phone(self, person: Person, phone: str) -> None:
        """Give a person another number; the former one is nobody's afterwards."""
        if person.phone:
            self._give_up(person.phone)
        self.former.pop(phone, None)
        person.phone = phone
        self.add(person)

    def _give_up(self, name: str) -> None:
        self._by_phone.pop(name, None)
        self._by_id.pop(name, None)
        self.former[name] = None
        while len(self.former) > _MAX_PEOPLE:
            self.former.popitem(last=False)
