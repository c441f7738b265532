"""One trace from a POST to the last effect, over the four services as processes, a real log and a real
collector."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.local.demo.api import Api
from infra.local.services import SERVICES
from infra.local.stack import LocalStack
from tests.fixtures.collector import Collector, Seen, collecting
from tests.journeys.test_poison_and_stop import load_tree

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
ATTRIBUTES = {
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "url.template",
    "server.address",
    "error.type",
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.destination.name",
    "messaging.message.id",
    "messaging.consumer.group.name",
    "messaging.destination.partition.id",
    "messaging.kafka.offset",
    "cloudevents.event_type",
    "sangathan.notification.id",
}
"""All allowed attributes: methods, templates, statuses, topics, types, numbers and ids."""
NAME, PHONE, EMAIL = "सुनीता देवी", "98765 43210", "sunita@example.org"


@pytest.fixture
async def traced(tmp_path: Path) -> AsyncIterator[tuple[LocalStack, Collector]]:
    """Services that start no traces themselves: only traces of callers are recorded."""
    with collecting() as collector:
        variables = {"SANGATHAN_OTLP_ENDPOINT": collector.url, "SANGATHAN_TRACE_RATIO": "0"}
        async with LocalStack(tmp_path, env=dict.fromkeys(SERVICES, variables)) as stack:
            yield stack, collector


def member(phone: str) -> dict[str, object]:
    consent = {"purpose": "welcome", "channel": "whatsapp", "notice": "2026-01", "language": "hi"}
    return {
        "name": NAME, "phone": phone, "email": EMAIL, "unit": "BR-GAYA", "gender": "female", "language": "hi",
        "consents": [consent],
    }  # fmt: skip


async def invite_link_set(api: Api) -> None:
    """Register an untraced member, and set the link of the resulting group."""
    answer = await api.send("POST", "members", "/v1/members", json=member("98765 43211"))
    assert answer.status_code == 201, answer.text
    deadline = time.monotonic() + 30
    while not (groups := [g async for g in api.pages("groups", "/v1/groups")]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    path, link = (
        f"/v1/groups/{groups[0]['id']}",
        {"invite_link": "https://chat.whatsapp.com/ExampleInviteLink"},
    )
    answer = await api.send(
        "PATCH", "groups", path, json=link, headers={"If-Match": f'"{groups[0]["version"]}"'}
    )
    assert answer.status_code == 200, answer.text


def ancestors(span: Seen, by_id: dict[str, Seen]) -> list[tuple[str, str]]:
    chain = []
    while span.parent in by_id:
        span = by_id[span.parent]
        chain.append((span.service, span.name))
    return chain


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_one_trace_from_the_post_to_the_last_count(traced: tuple[LocalStack, Collector]) -> None:
    stack, collector = traced
    async with Api(stack.urls, stack.token, connections=4) as api:
        await load_tree(api)
        await invite_link_set(api)
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        answer = await api.send("POST", "members", "/v1/members", json=member(PHONE), headers=headers)
        assert answer.status_code == 201, answer.text
        last = ("analytics", "process notification.sent")
        await asyncio.to_thread(collector.until, lambda: bool(collector.named(*last)), 60)
    # Each service has sent all its spans by the time it exits.
    for name in SERVICES:
        await stack.processes[name].stop()

    assert {span.trace for span in collector.spans} == {TRACE}
    assert {span.service for span in collector.spans} == set(SERVICES)
    assert not [span for span in collector.spans if span.failed]
    by_id = {span.id: span for span in collector.spans}
    assert len(by_id) == len(collector.spans)

    [post] = collector.named("members", "POST /v1/members")
    assert post.parent == CALLER
    root = ("members", "POST /v1/members")
    [placed] = collector.named("groups", "process member.joined")
    assert ancestors(placed, by_id) == [root]
    [counted_seat] = collector.named("analytics", "process group.member_assigned")
    assert ancestors(counted_seat, by_id) == [("groups", "process member.joined"), root]
    [counted_welcome] = collector.named(*last)
    assert ancestors(counted_welcome, by_id) == [
        ("notifications", "send notification"),
        ("notifications", "process member.joined"),
        root,
    ]
    # The answers of members and groups to the dispatcher are steps of the same trace.
    for peer in ("members", "groups"):
        [asked] = collector.named("notifications", f"POST /v1/{peer}/resolve")
        [answered] = collector.named(peer, f"POST /v1/{peer}/resolve")
        assert by_id[asked.parent].name == "send notification"
        assert answered.parent == asked.id
    # Every event was sent by its service, under the step that staged it; its time in the outbox is visible.
    for service, event, cause in (
        ("members", "member.joined", post),
        ("groups", "group.member_assigned", placed),
        ("notifications", "notification.sent", by_id[counted_welcome.parent]),
    ):
        [sent] = collector.named(service, f"send {event}")
        assert sent.parent == cause.id
        # When it was staged is stored in milliseconds, rounded down.
        assert sent.ended >= sent.began >= cause.began - 1_000_000
    assert post.began <= placed.began <= placed.ended <= counted_welcome.ended

    # The exported spans hold nothing personal: no name, number, address, link or message text.
    left = b"\n".join(collector.raw)
    for personal in (NAME, "सुनीता", PHONE, "9876543210", EMAIL, "chat.whatsapp.com", "ExampleInviteLink"):
        assert personal.encode() not in left
    assert {key for span in collector.spans for key in span.attributes} <= ATTRIBUTES
