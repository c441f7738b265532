"""The demo's roster: an admin sends the contact list of one chat group, and who never came is invited again.

It stands at the end, after the books have been read, for it sends a message that they do not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.local.demo.api import Api
from infra.local.demo.gateways import Simulators
from infra.local.errors import LocalError

STRANGER: Final = "+91 60000 00001"
WITHIN_SECONDS: Final = 60.0
NOTICE: Final = "/v1/notices/demo-reminder/hi"
POLICIES: Final = "/v1/policies"
KEPT: Final = (
    *("zone", "election_matter", "certificates"),
    *("silence_windows", "frequency_caps", "budgets", "rates"),
)
TEXT: Final = "हम आपको समूह के निमंत्रण की याद दिलाने के लिए संदेश भेजेंगे।"
CONSENT: Final = {"notice": "demo-reminder", "language": "hi", "evidence": "list-1"}


@dataclass(frozen=True)
class Shown:
    """A group after its roster: counts by cause, and what became of the one who was invited again."""

    group_id: str
    joined: int
    never_came: int
    strangers: int
    invited_again: str
    stopped: bool = False
    """Whether the one who never came had said STOP."""

    @property
    def balances(self) -> bool:
        expected = "suppressed" if self.stopped else "sent"
        return (self.never_came, self.strangers, self.invited_again) == (1, 1, expected)


async def show_roster(api: Api, group: Mapping[str, Any], simulators: Simulators | None = None) -> Shown:
    """Send a complete list of everybody in the group but one, and a stranger. With simulated gateways, that
    one has said STOP before, and no consent that somebody else enters undoes it.

    Raises: `LocalError` when a service refuses, or nothing comes of it.
    """
    group_id = str(group["id"])
    items = (await api.get("groups", f"/v1/groups/{group_id}/members", limit=100))["items"]
    ids = [str(each["member_id"]) for each in items]
    absent = ids[-1]
    answer = await api.send("POST", "members", "/v1/members/resolve", json={"ids": ids})
    people = {each["id"]: each for each in _ok(answer)["items"]}
    channel = "email" if people[absent]["email"] else "sms"
    if simulators:
        absent, channel = await _stopped(api, simulators, people), "whatsapp"
        ids.remove(absent)
        ids.append(absent)
    _ok(await api.send("PUT", "members", NOTICE, json={"text": TEXT}))
    consents = f"/v1/members/{absent}/consents/reminder/{channel}"
    _ok(await api.send("PUT", "members", consents, json=CONSENT))
    numbers = [people[id_]["phone"] for id_ in ids[:-1]]
    await _at_any_hour(api)
    text = "\n".join(f"{number[:3]} {number[3:8]}-{number[8:]}" for number in [*numbers, STRANGER])
    _ok(
        await api.send(
            "POST",
            "groups",
            f"/v1/groups/{group_id}/roster?complete=true",
            content=text.encode(),
            headers={"Content-Type": "text/plain"},
        )
    )

    async def reminder() -> str | None:
        found = await api.get("notifications", "/v1/notifications", member=absent)
        states = [each["state"] for each in found["items"] if each["purpose"] == "reminder"]
        return states[0] if states and states[0] not in ("queued", "sending") else None

    state = await _until(reminder, "nobody was invited again after a roster")
    counts = (await api.get("groups", f"/v1/groups/{group_id}/drift"))["counts"]
    return Shown(
        group_id, counts["joined"], counts["never_came"], counts["strangers"], state, simulators is not None
    )


async def _stopped(api: Api, simulators: Simulators, people: Mapping[str, Mapping[str, Any]]) -> str:
    """Somebody who got a message, and says STOP now: it is in the ledger afterwards."""
    notes = [note async for note in api.pages("notifications", "/v1/notifications", state="sent")]
    welcomed = {str(note["member_id"]) for note in notes if note["channel"] == "whatsapp"}
    member_id = next(id_ for id_ in people if id_ in welcomed)
    await simulators.say(people[member_id]["phone"], "रोकें")

    async def withdrawn() -> str | None:
        member = await api.get("members", f"/v1/members/{member_id}")
        states = [c["state"] for c in member["consents"] if c["channel"] == "whatsapp"]
        return member_id if "withdrawn" in states else None

    return await _until(withdrawn, "a STOP is not in the ledger")


async def _at_any_hour(api: Api) -> None:
    """Put policies of sending in force that hold no reminder at night: a demo is watched at any hour."""
    policies = await api.get("notifications", POLICIES)
    headers = {"If-Match": f'"{policies["version"]}"'}
    wanted = {name: policies[name] for name in KEPT} | {"quiet_hours": []}
    _ok(await api.send("PUT", "notifications", POLICIES, json=wanted, headers=headers))


def described(shown: Shown) -> str:
    verdict = "balances" if shown.balances else "DOES NOT BALANCE"
    return (
        f"a roster of one group: {shown.joined} joined, {shown.never_came} never came, {shown.strangers} "
        f"stranger; invited again: {shown.invited_again}{' after a STOP' * shown.stopped} ({verdict})"
    )


async def _until(look: Callable[[], Awaitable[str | None]], otherwise: str) -> str:
    deadline = asyncio.get_running_loop().time() + WITHIN_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        if (found := await look()) is not None:
            return found
        await asyncio.sleep(0.2)
    raise LocalError(otherwise)


def _ok(answer: Any) -> Any:
    if answer.status_code >= 300:
        raise LocalError(f"answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()
