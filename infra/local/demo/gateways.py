"""The simulated gateways' own record of what they took, against what notifications says of each message."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from infra.local.demo.api import Api
from infra.local.demo.lines import Line
from infra.local.errors import LocalError

NAMES: Final = ("whatsapp", "exotel", "smtp")
LOST_ANSWERS: Final = 1
"""Answers of each of the first two gateways that get lost, though the messages are taken. More of them would
open a breaker for longer and longer."""
QUIET_SECONDS: Final = 1.5
COUNTERS: Final = ("updates", "notifications_transitions")
PAGE: Final = 10_000
Note = Mapping[str, Any]


@dataclass(frozen=True)
class Gateway:
    """One simulator's record: messages it took, those it refused in its answer, references it took more than
    once, and messages it took though its answer got lost."""

    name: str
    taken: int
    refused: int
    twice: int
    lost_answers: int
    told: Mapping[str, int]
    """Messages by each status that notifications was told."""


@dataclass(frozen=True)
class Record:
    gateways: Sequence[Gateway]
    messages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The gateways that took a message, by the notification's id."""

    def lines(self, notes: Sequence[Note], members: Sequence[Mapping[str, Any]]) -> list[Line]:
        """The lines of the books: each message is sent once, found once with a gateway, or listed with its
        reason; whoever said STOP is in the ledger."""
        sent = [note for note in notes if note["state"] == "sent"]
        others = [note for note in notes if note["state"] != "sent"]
        attempts = [[a["outcome"] for a in note["attempts"]] for note in notes]
        stopped = {
            (member["id"], consent["channel"])
            for member in members
            for consent in member["consents"]
            if consent["state"] == "withdrawn" and consent["source"] == "stop"
        }
        return [
            Line(
                "sent, found with a gateway",
                {"notifications": len(sent), "gateways": sum(n["id"] in self.messages for n in sent)},
            ),
            Line(
                "tries, taken or refused by a gateway",
                {
                    "notifications": sum(map(len, attempts)),
                    "gateways": sum(gateway.taken + gateway.refused for gateway in self.gateways),
                },
            ),
            Line(
                "sent or taken twice, which must be none",
                {
                    "notifications": sum(outcomes.count("sent") > 1 for outcomes in attempts),
                    "gateways": sum(gateway.twice for gateway in self.gateways),
                    "none": 0,
                },
            ),
            Line(
                "not sent, with its reason",
                {"notifications": len(others), "reasons": sum(bool(_reason(note)) for note in others)},
            ),
            Line(
                "STOPs confirmed, in the ledger",
                {
                    "members": len(stopped),
                    "notifications": sum(note["template"] == "stopped" for note in notes),
                },
            ),
        ]


def reasons(notes: Sequence[Note]) -> Counter[str]:
    """Messages that were not sent, by state and reason."""
    return Counter(f"{n['state']}: {_reason(n)}" for n in notes if n["state"] != "sent")


def _reason(note: Note) -> str | None:
    """Why it was not sent, or is not yet."""
    last: Mapping[str, Any] = note["attempts"][-1] if note["attempts"] else {}
    reason: str | None = note.get("reason") or note.get("held_for") or last.get("error_class")
    return reason


class Simulators:
    """`async with Simulators(control_url) as simulators:`"""

    def __init__(self, url: str) -> None:
        self._client = httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def lose_answers(self) -> None:
        """Break the line to WhatsApp and to the SMS gateway, after they took a message."""
        for name in NAMES[:2]:
            await self.steer(name, next=LOST_ANSWERS, fault="reset", taken=True)

    async def steer(self, name: str, **how: Any) -> None:
        """Let a gateway behave otherwise; see `infra/simulators/README.md`."""
        await self._call("POST", f"/{name}/steer", how)

    async def steer_none(self) -> None:
        """Let all behave as usual again."""
        for name in NAMES:
            await self._call("DELETE", f"/{name}/steer")

    async def disorder(self, **how: Any) -> None:
        """Let WhatsApp's webhooks come otherwise."""
        await self._call("POST", "/whatsapp/webhooks", how)

    async def faults(self, name: str) -> int:
        """How many requests to a gateway have met a fault."""
        return sum((await self._call("GET", f"/{name}/summary"))["faults"].values())

    async def at_rest(self) -> bool:
        """Whether every status was told, and answered."""
        return not any([(await self._call("GET", f"/{name}/summary"))["unsettled"] for name in NAMES])

    async def say(self, phone: str, text: str) -> None:
        """Let somebody write to our number on WhatsApp."""
        await self._call("POST", "/whatsapp/do/inbound_text", {"who": phone, "text": text})

    async def settled(self, api: Api, within: float) -> bool:
        """Wait until every status was told, and applied; False if not `within` seconds."""
        loop = asyncio.get_running_loop()
        deadline, since, before = loop.time() + within, loop.time(), None
        while loop.time() < deadline:
            summaries = [await self._call("GET", f"/{name}/summary") for name in NAMES]
            metrics = await api.metrics("notifications")
            told = [
                metrics.get(f"sangathan_{name}_total") for name in ("updates", "notifications_transitions")
            ]
            now = (told, [each["taken"] for each in summaries])
            moving = any(each["unsettled"] for each in summaries) or await _moving(api)
            if moving or now != before:
                before, since = now, loop.time()
            elif loop.time() - since >= QUIET_SECONDS:
                return True
            await asyncio.sleep(0.25)
        return False

    async def read(self, api: Api) -> Record:
        """Everything that the gateways took."""
        by_notification: dict[str, list[str]] = defaultdict(list)
        answer = await api.send("GET", "notifications", "/metrics")
        statuses = _statuses(answer.text)
        gateways = []
        for name in NAMES:
            summary, references, after = await self._call("GET", f"/{name}/summary"), Counter[str](), 0
            while page := (await self._call("GET", f"/{name}/taken?after={after}&limit={PAGE}"))["taken"]:
                references.update(each["reference"] for each in page)
                after = page[-1]["number"]
            for reference in references:
                by_notification[reference.strip("<>").partition("@")[0].rpartition(".")[0]].append(name)
            twice = sum(count > 1 for count in references.values())
            lost = sum(count for fault, count in summary["faults"].items() if fault.endswith("+taken"))
            refused = sum(summary["refused"].values())
            gateways.append(Gateway(name, references.total(), refused, twice, lost, statuses[name]))
        return Record(gateways, by_notification)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = await self._client.request(method, path, json=body)
        if answer.status_code != 200:
            raise LocalError(f"the simulators answered {answer.status_code} to {path}: {answer.text[:300]}")
        return answer.json()


async def _moving(api: Api) -> bool:
    """Whether a message is still to go, on its first or its next channel. One that failed for now waits
    longer than the demo takes, and one whose outcome stays unknown is listed as such."""
    for state in ("queued", "sending"):
        async for note in api.pages("notifications", "/v1/notifications", state=state):
            last = note["attempts"][-1] if note["attempts"] else None
            if last is None or last["outcome"] != "transient":
                return True
    return False


def _statuses(metrics: str) -> Mapping[str, Counter[str]]:
    """Statuses told by sender."""
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == "sangathan_deliveries_total":
                statuses[sample.labels["sender"]][sample.labels["status"]] += int(sample.value)
    return statuses
