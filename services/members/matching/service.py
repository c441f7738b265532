"""Matching numbers to members, for whoever reconciles chat groups with the roll.

The answer says of each number whether it is a member's, so it is given for the caller's own units alone,
where a stranger and somebody else's member look the same, and every answer is recorded like a reading of
contacts. There is no budget as for `TakenPhones`: a roster honestly has a thousand members. Somebody who
tries numbers meets strangers nearly always, which a metric counts and an alert watches.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from services.members.core.core import Core
from services.members.core.errors import unit_not_found
from services.members.core.phone_cells import UnreadablePhoneError, numbers_in
from services.shared.contracts.vocabulary import in_subtree
from services.shared.identity import Identity

VIA: Final = "match"
MEMBER: Final = "member"


class MatchProblem(StrEnum):
    """Why an entry is nobody's."""

    STRANGER = "stranger"
    SEVERAL = "several"
    UNREADABLE = "unreadable"


class Match(NamedTuple):
    """The member whom an entry belongs to, or the problem with it."""

    member_id: str | None
    problem: MatchProblem | None


class Matching:
    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._contacts = core.contacts
        self._reader = core.reader
        self._counted = core.metrics.phones_matched

    async def match(self, caller: Identity, unit: str, entries: Sequence[str]) -> list[Match]:
        """A match for each entry, in order, among the active members of `unit` and all below it. The members
        found are recorded as read by the caller before they are told.

        Raises: `NotFoundError` for a unit outside the caller's.
        """
        if not caller.can_access(unit):
            raise unit_not_found()
        # In a thread: a thousand entries with foreign numbers can take half a second.
        read = await asyncio.to_thread(self._read, entries)
        holders = await self._store.active_by_phone({index for each in read for index in each})
        within = {index: id_ for index, (id_, where) in holders.items() if in_subtree(where, unit)}
        matches = [_match(each, within) for each in read]
        found = dict.fromkeys(match.member_id for match in matches if match.member_id is not None)
        await self._reader.record(caller, list(found), VIA, about=(f"unit:{unit}", unit))
        for outcome, n in Counter(match.problem or MEMBER for match in matches).items():
            self._counted.labels(outcome).inc(n)
        return matches

    def _read(self, entries: Sequence[str]) -> list[list[str]]:
        """The fingerprints of each entry's numbers; none of one that cannot be read."""
        return [self._fingerprints(entry) for entry in entries]

    def _fingerprints(self, entry: str) -> list[str]:
        try:
            return [self._contacts.fingerprint(number) for number in numbers_in(entry)]
        except UnreadablePhoneError:
            return []


def _match(fingerprints: Sequence[str], members: Mapping[str, str]) -> Match:
    if not fingerprints:
        return Match(None, MatchProblem.UNREADABLE)
    found = {members[each] for each in fingerprints if each in members}
    if len(found) > 1:
        return Match(None, MatchProblem.SEVERAL)
    return Match(found.pop(), None) if found else Match(None, MatchProblem.STRANGER)
