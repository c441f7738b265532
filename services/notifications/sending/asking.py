"""Asks the owners of the facts that the send policy judges by: once for a batch, or for one explanation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.notifications.core.channel import Gateways, Sender
from services.notifications.core.clients.members import Contact
from services.notifications.core.core import Core
from services.notifications.core.domain import Notification
from services.notifications.core.policies.domain import SERVICE, Policies, account_of, share_of
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import Spent
from services.notifications.core.suppressions.domain import Suppression, entries_about
from services.notifications.core.templates.catalogue import consent_of
from services.notifications.sending.composing import Asked
from services.notifications.sending.rates import PAIRED, pair_of
from services.notifications.sending.store import PairStore
from services.shared.contracts.vocabulary import Channel

MEMBERS: Final = "members"
GROUPS: Final = "groups"
WINDOWED: Final = Channel.WHATSAPP.value
"""The channel on which a person's own message lets any text go to them for a day."""


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """`peer` gave no answer about this one, `reason` as in `Answers.failed`; None for an unknown member."""

    peer: str
    reason: str | None


class Asking:
    def __init__(self, core: Core, sender: Sender | Gateways) -> None:
        self._members = core.members
        self._groups = core.groups
        self._fingerprints = core.fingerprints
        self._suppressions = core.suppressions
        self._notifications = core.notifications
        self._budgets = core.budgets
        self._pairs = PairStore(core.runtime.database)
        self._held: dict[str, set[str]] = {}
        """By claim: the members of whom `only_here` has made sure."""
        self._window_store = core.windows
        self._gateways = sender.by_channel if isinstance(sender, Gateways) else {}
        self._sender = "" if isinstance(sender, Gateways) else sender.name

    async def ask(
        self, wanted: Sequence[tuple[Notification, Recipient]], policies: Policies, now: datetime
    ) -> dict[str, Asked | NotAnswered]:
        """By notification id. Raises: `TransientError`, a fault of MongoDB."""
        of_group = {n.id: n.about(now).group_of(r) or "" for n, r in wanted}
        contacts, groups, sent = await asyncio.gather(
            self._members.contacts([r.member_id for _, r in wanted]),
            self._groups.groups(sorted(filter(None, set(of_group.values())))),
            self._sent([n for n, _ in wanted], policies, now),
        )
        suppressed = await self._suppressed(contacts.found)
        windows = await self._windows(contacts.found, now)
        answers: dict[str, Asked | NotAnswered] = {}
        for notification, recipient in wanted:
            member_id, group_id = recipient.member_id, of_group[notification.id]
            contact = contacts.found.get(member_id)
            if reason := contacts.failed.get(member_id):
                answers[notification.id] = NotAnswered(MEMBERS, reason)
            elif reason := groups.failed.get(group_id):
                answers[notification.id] = NotAnswered(GROUPS, reason)
            elif contact is None:
                answers[notification.id] = NotAnswered(MEMBERS, None)
            else:
                stopped = frozenset(
                    entry.channel
                    for entry in suppressed.get(member_id, ())
                    if entry.covers(consent_of(notification.purpose, notification.template))
                )
                group = groups.found.get(group_id)
                answers[notification.id] = Asked(
                    notification,
                    recipient,
                    contact,
                    group,
                    stopped,
                    sent.get(member_id, ()),
                    windows=frozenset((WINDOWED,)) if member_id in windows else frozenset(),
                )
        return answers

    async def take_places(
        self, going: Sequence[tuple[Asked, str]], policies: Policies, now: datetime
    ) -> dict[str, Asked]:
        """Take a place of the channel's budget for each that is about to go on that channel, the most
        important first. Returns those for whom there was none, by notification id, with the time at which
        there may be one."""
        left: dict[str, Asked] = {}
        for channel in sorted({channel for _, channel in going}):
            account = self._account(channel)
            limit = await self._limit(account, channel, policies)
            if limit is None:
                continue
            # Whoever has written to us within a day costs nothing.
            mine = [asked for asked, on in going if on == channel and channel not in asked.windows]
            mine.sort(key=lambda asked: -share_of(asked.notification.purpose))
            left |= await self._take(account, channel, mine, limit, now)
        return left

    async def only_here(
        self, going: Sequence[tuple[Asked, str]], policies: Policies, claim: str, seconds: float
    ) -> set[str]:
        """The ids of those that may go as far as others of the same member are concerned: while one that
        counts for a cap is on its way from one process, another process does not judge the next, for it
        would not see the first. They are held for so many seconds, or as long as `holding`."""
        capped = {
            asked.notification.id: member_key(asked.notification.member_id)
            for asked, _ in going
            if policies.caps(asked.notification.purpose)
        }
        held = await self._pairs.take(set(capped.values()), seconds, claim) if capped else set()
        if claim in self._held:
            self._held[claim] |= held
        ids = {asked.notification.id for asked, _ in going}
        return ids - {id_ for id_, key in capped.items() if key not in held}

    @asynccontextmanager
    async def holding(self, claim: str) -> AsyncIterator[None]:
        """Until all that was on its way by this claim is recorded, others do not judge what `only_here` has
        made sure of. After a fault, they wait until its time is over."""
        self._held[claim] = held = set[str]()
        try:
            yield
            if held:
                await self._pairs.let_go(held, claim)
        finally:
            del self._held[claim]

    async def look_at_limits(self, asked: Asked, channel: str, policies: Policies, now: datetime) -> Asked:
        """With what the limits of the channel say now, without taking anything of them: the pace of its
        number to one person, and its budget."""
        gateway, fingerprint = self._gateways.get(channel), await self._fingerprint(asked, channel)
        if gateway is not None and gateway.name == PAIRED and asked.notification.purpose != SERVICE:
            free_at = await self._pairs.held_until(pair_of(gateway, fingerprint))
            asked = replace(asked, paired={channel: free_at} if free_at is not None else {})
        account = self._account(channel)
        limit = await self._limit(account, channel, policies)
        if limit is None or channel in asked.windows:
            return asked
        if await self._budgets.reached(account, [fingerprint], now):
            return asked
        taken, free_at = await self._budgets.spent(account, now)
        if taken < int(limit * share_of(asked.notification.purpose)):
            return asked
        return replace(asked, spent={channel: Spent(limit, free_at or now + A_QUARTER)})

    async def _limit(self, account: str, channel: str, policies: Policies) -> int | None:
        """The people to be reached in 24 hours: as the policies say, or the provider if that is less."""
        limits = [policies.budget(channel)]
        if channel in self._gateways:
            limits.append(await self._budgets.limit(account))
        return min((limit for limit in limits if limit is not None), default=None)

    def _account(self, channel: str) -> str:
        gateway = self._gateways.get(channel)
        return account_of(channel, gateway.account if gateway else self._sender)

    async def _take(
        self, account: str, channel: str, mine: Sequence[Asked], limit: int, now: datetime
    ) -> dict[str, Asked]:
        people: dict[str, list[Asked]] = {}
        for asked in mine:
            people.setdefault(await self._fingerprint(asked, channel), []).append(asked)
        known = await self._budgets.reached(account, people, now)
        fresh = [person for person in people if person not in known]
        granted: dict[str, str] = {}
        for share in sorted({_share(people[person]) for person in fresh}, reverse=True):
            some = [person for person in fresh if _share(people[person]) == share]
            places = await self._budgets.take(account, len(some), int(limit * share), now)
            granted |= {person: people[person][-1].notification.id for person in some[:places]}
        await self._budgets.remember(account, granted, now)
        refused = set(fresh) - set(granted)
        if not refused:
            return {}
        _, free_at = await self._budgets.spent(account, now)
        until = free_at if free_at is not None and free_at > now else now + A_QUARTER
        return {
            asked.notification.id: replace(asked, spent={channel: Spent(limit, until)})
            for person in refused
            for asked in people[person]
        }

    async def _fingerprint(self, asked: Asked, channel: str) -> str:
        await self._fingerprints.ready()
        return self._fingerprints.of(channel, asked.contact.address(channel) or "")

    async def _windows(self, contacts: Mapping[str, Contact], now: datetime) -> set[str]:
        """The ids of members who have written to us on WhatsApp within a day."""
        if WINDOWED not in self._gateways:
            return set()
        await self._fingerprints.ready()
        people = {
            member_id: self._fingerprints.of(WINDOWED, contact.address(WINDOWED) or "")
            for member_id, contact in contacts.items()
            if contact.address(WINDOWED)
        }
        opened = await self._window_store.opened(WINDOWED, set(people.values()), now)
        return {member_id for member_id, person in people.items() if person in opened}

    async def _sent(
        self, wanted: Sequence[Notification], policies: Policies, now: datetime
    ) -> Mapping[str, Sequence[tuple[str, datetime]]]:
        """Find what went to members whose message is under a cap of frequency, by member id."""
        capped = {n.member_id for n in wanted if policies.caps(n.purpose)}
        if not capped:
            return {}
        purposes = {purpose for cap in policies.frequency_caps for purpose in cap.purposes}
        longest = max(cap.days for cap in policies.frequency_caps)
        return await self._notifications.sent_to(capped, purposes, now - timedelta(days=longest))

    async def _suppressed(self, contacts: Mapping[str, Contact]) -> dict[str, list[Suppression]]:
        """The entries of the suppression list about the addresses of these contacts, by member id."""
        await self._fingerprints.ready()
        of: dict[str, list[str]] = {}
        for member_id, contact in contacts.items():
            for channel in contact.channels:
                fingerprint = self._fingerprints.of(channel, contact.address(channel) or "")
                for id_ in entries_about(channel, fingerprint):
                    of.setdefault(id_, []).append(member_id)
        found: dict[str, list[Suppression]] = {}
        for id_, entry in (await self._suppressions.by_id(of)).items():
            for member_id in of[id_]:  # people may share an address
                found.setdefault(member_id, []).append(entry)
        return found


ELSEWHERE: Final = timedelta(seconds=5)
"""While another process is about to send to the same member, a message is looked at again after this time."""
A_QUARTER: Final = timedelta(minutes=15)
"""A budget that is spent without anything that will be free again is looked at after this time."""


def member_key(member_id: str) -> str:
    return f"member:{member_id}"


def _share(asked: Collection[Asked]) -> float:
    return max(share_of(each.notification.purpose) for each in asked)
