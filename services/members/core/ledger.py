"""The consent ledger: every consent that a member gave or withdrew, one entry each, never changed.

The state in `Member.consents` is what the ledger adds up to (`state_of`). A consent of a registration is
written once, in the member's document, and taken into the ledger with the first change of its purpose and
channel: so registering costs no second write, and members whom an older release registers need no migration.
`whole` is the ledger with those consents. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from services.members.core.domain import Consent, Member

Pair: TypeAlias = tuple[str, str]
"""`(purpose, channel)`: what a consent is about."""
REGISTERED_AT_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry(Consent):
    """One change: the consent after it. `sequence` is the member's version then, which orders a member's
    entries.

    `notice_sha256` is the digest of the text that was shown, if it was registered then. `actor` is the
    subject of the token that recorded it, `evidence` a reference to what proves it.
    """

    member_id: str
    sequence: int
    notice_sha256: str | None = None
    actor: str | None = None
    evidence: str | None = None

    @property
    def pair(self) -> Pair:
        return self.purpose, self.channel

    @property
    def consent(self) -> Consent:
        """The entry as the member's document keeps it."""
        return Consent(**_consent(self))


def entry_of(
    member: Member,
    consent: Consent,
    *,
    notice_sha256: str | None = None,
    actor: str | None = None,
    evidence: str | None = None,
) -> LedgerEntry:
    """The entry for a consent that changed with the present version of the member."""
    return LedgerEntry(
        member_id=member.id,
        sequence=member.version,
        **_consent(consent),
        notice_sha256=notice_sha256,
        actor=actor,
        evidence=evidence,
    )


def _consent(of: Consent) -> dict[str, Any]:
    return {name: getattr(of, name) for name in Consent.__slots__}


def untaken(member: Member, taken: Iterable[Pair]) -> list[LedgerEntry]:
    """Entries for the consents of the member's document of which the ledger has none; `taken` are those it
    has."""
    known = set(taken)
    registered = replace(member, version=REGISTERED_AT_VERSION)
    return [
        entry_of(registered, consent)
        for consent in member.consents
        if (consent.purpose, consent.channel) not in known
    ]


def whole(member: Member, stored: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """The member's ledger in order, from what is `stored` of it, in order, and from the member's document."""
    return [*untaken(member, (entry.pair for entry in stored)), *stored]


def state_of(ledger: Iterable[LedgerEntry]) -> dict[Pair, Consent]:
    """The consents that a ledger in order adds up to: the last entry of each purpose and channel."""
    return {entry.pair: entry.consent for entry in ledger}
