"""The operations API of a consumer. For replays themselves see tests/integration/messaging/test_replay.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.shared.contracts.members import MemberJoined
from services.shared.messaging import Message, Partition, Record, encode
from tests.fixtures.apps import Running
from tests.integration.groups.test_placement import joins

LETTERS = "/v1/ops/dead-letters"
OFFSETS = (9, 10, 2)


async def bury(groups: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `member.joined` whose handler fails, and a record of no known type, at each of `OFFSETS`."""
    assert groups.service.consumer is not None
    applier = groups.service.consumer.applier

    async def sick(*_: object) -> None:
        raise KeyError

    def record(message: Message, partition: int, offset: int) -> Record:
        place = Partition(message.topic, partition)
        return Record(place, offset, message.key, message.value, message.headers, 0)

    unknown = Message("sangathan.members", b"m", b"{}", (("ce_type", b"member.sang"),))
    with monkeypatch.context() as broken:
        broken.setattr(applier, "_handlers", {MemberJoined: sick})
        for offset in OFFSETS:
            good = encode(groups.envelope(joins(1)[0]))
            await applier.apply([record(good, 0, offset), record(unknown, 1, offset)])


async def pages(groups: Running, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {**query, "limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await groups.http.get(LETTERS, params=params)).json()
        items += page["items"]
        cursor = page["next"]
    return items


async def test_letters_are_listed_filtered_and_summed_up(
    groups: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bury(groups, monkeypatch)
    listed = await pages(groups)
    assert [(x["partition"], x["offset"]) for x in listed] == [(p, o) for p in (0, 1) for o in (2, 9, 10)]
    assert len(await pages(groups, type="member.joined")) == 3
    assert len(await pages(groups, reason="unknown_type", state="dead")) == 3
    assert await pages(groups, state="discarded") == []
    at = min(x["at"] for x in listed)
    assert await pages(groups, until=at) == []
    assert len(await pages(groups, since=at)) == 6
    assert (await groups.http.get(LETTERS, params={"since": "yesterday"})).status_code == 422
    summary = (await groups.http.get(f"{LETTERS}/summary")).json()
    assert summary["total"] == 6
    kinds = [(k["type"], k["reason"], k["count"]) for k in summary["items"]]
    assert kinds == [("member.joined", "handler_error", 3), ("member.sang", "unknown_type", 3)]
    assert all(at <= k["oldest"] <= k["newest"] for k in summary["items"])


async def test_a_bulk_replay_goes_page_by_page(groups: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    await bury(groups, monkeypatch)
    operator = groups.auth("ops:write", sub="ops-7")
    answers, cursor = [], ""
    while cursor is not None:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        answer = await groups.http.post(f"{LETTERS}/replay", params=params, headers=operator)
        answers.append(answer.json())
        cursor = answers[-1]["next"]
    counts = [[a[name] for name in ("replayed", "failed", "withheld", "held", "remaining")] for a in answers]
    assert counts == [[2, 0, 0, 0, 4], [1, 0, 1, 0, 2], [0, 0, 2, 0, 0]]
    assert {f["reason"] for a in answers for f in a["failures"]} == {"not_read_again"}
    replayed = await pages(groups, state="replayed")
    assert {x["settled_by"] for x in replayed} == {"ops-7"}
    assert all(x["settled_at"] for x in replayed)
    assert await groups.runtime.database["placements"].count_documents({}) == 3


@pytest.mark.parametrize("query", ["reson=unknown_type", "reason=a&reason=unknown_type", "since=20261126"])
@pytest.mark.parametrize("verb", ["discard", "replay"])
async def test_a_mistyped_filter_settles_no_letter(
    groups: Running, monkeypatch: pytest.MonkeyPatch, verb: str, query: str
) -> None:
    await bury(groups, monkeypatch)
    body: Any = {"json": {"reason": "bad release"}} if verb == "discard" else {}
    assert (await groups.http.post(f"{LETTERS}/{verb}?{query}", **body)).status_code == 422
    if verb == "replay":
        assert (await groups.http.post(f"{LETTERS}/replay", json={"reason": "x"})).status_code == 422
    assert len(await pages(groups, state="dead")) == 2 * len(OFFSETS)


@pytest.mark.parametrize("name", ["since", "until"])
async def test_a_time_beyond_every_calendar_is_refused(groups: Running, name: str) -> None:
    for time in ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"):
        for path in (LETTERS, f"{LETTERS}/summary"):
            assert (await groups.http.get(path, params={name: time})).status_code == 422
    assert (await groups.http.get(LETTERS, params={name: "9999-12-28T00:00:00-14:00"})).status_code == 200


async def test_a_bulk_discard_keeps_who_and_why(groups: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    await bury(groups, monkeypatch)
    operator, body = groups.auth("ops:write", sub="ops-7"), {"reason": "a test of ours"}
    params = {"type": "member.sang"}
    answer = await groups.http.post(f"{LETTERS}/discard", params=params, json=body, headers=operator)
    assert answer.json() == {"discarded": 3, "remaining": 0}
    again = await groups.http.post(f"{LETTERS}/discard", params=params, json=body)
    assert again.json() == {"discarded": 0, "remaining": 0}
    discarded = await pages(groups, state="discarded")
    assert {(x["type"], x["note"], x["settled_by"]) for x in discarded} == {
        ("member.sang", "a test of ours", "ops-7")
    }
    assert len(await pages(groups, state="dead")) == 3


@pytest.mark.parametrize(
    "call",
    [
        lambda http, by: http.post(f"{LETTERS}/replay", headers=by),
        lambda http, by: http.post(f"{LETTERS}/discard", headers=by, json={"reason": "a test"}),
        lambda http, by: http.post("/v1/ops/fuse/reset", headers=by),
    ],
    ids=["replay", "discard", "reset"],
)
async def test_a_reader_changes_nothing(groups: Running, call: Callable[..., Any]) -> None:
    assert (await call(groups.http, groups.auth("ops:read"))).status_code == 403
