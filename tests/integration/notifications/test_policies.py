"""The policies of sending: put, obeyed by the dispatcher, explained by the same code, judged again when they
change; and what operators see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.notifications.core.domain import Cause, Notification, OutcomeClass, SendOutcome, State
from services.notifications.resending.jobs import ResendJob
from services.notifications.resending.service import Resending
from services.notifications.resending.store import FailedStore
from services.shared.contracts.vocabulary import Channel
from services.shared.errors import TransientError
from services.shared.ids import new_id
from services.shared.jobs import Advance, Effect
from services.shared.jobs.job import advanced
from services.shared.messaging import UnitOfWork
from tests.integration.notifications.conftest import Bench, Replica, assigned, joined
from tests.integration.notifications.scripted import SENT, Scripted, queued
from tests.integration.notifications.stand_ins import Peers

ALL_CHANNELS = [channel.value for channel in Channel]
OPEN: dict[str, Any] = {
    "zone": "Asia/Kolkata",
    "quiet_hours": [],
    "silence_windows": [],
    "election_matter": ["broadcast"],
    "certificates": True,
    "frequency_caps": [],
    "budgets": [],
    "rates": [],
}


@pytest_asyncio.fixture(loop_scope="session")
async def http(bench: Bench, keys: Keys) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=bench.service.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        client.headers |= as_caller(keys)
        yield client


def as_caller(keys: Keys, unit: str | None = "*") -> dict[str, str]:
    # From the beginning of time: the service's clock is the test's.
    token = keys.mint("notifications:read notifications:write", unit, nbf=0, iat=0)
    return {"authorization": f"Bearer {token}"}


async def put(http: httpx2.AsyncClient, version: int = 0, **changed: Any) -> httpx2.Response:
    return await http.put("/v1/policies", json=OPEN | changed, headers={"If-Match": f'"{version}"'})


def now_is_quiet(purpose: str = "welcome") -> dict[str, Any]:
    """By MongoDB's clock, which is the machine's."""
    local = datetime.now(UTC) + timedelta(hours=5, minutes=30)
    begins, until = (f"{local + timedelta(hours=hours):%H:%M}" for hours in (-1, 1))
    return {
        "name": "now", "begins": begins, "until": until, "purposes": [purpose], "channels": ALL_CHANNELS
    }  # fmt: skip


async def explain(http: httpx2.AsyncClient, **query: str) -> dict[str, Any]:
    answer = await http.get("/v1/explain", params=query)
    assert answer.status_code == 200, answer.text
    explained: dict[str, Any] = answer.json()
    return explained


async def test_quiet_hours_defer_are_explained_and_lifted(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers
) -> None:
    assert (await put(http, quiet_hours=[now_is_quiet()])).status_code == 200
    member, _ = await queued(bench, peers)
    await bench.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.deferred_for) == (State.QUEUED, "quiet_hours")
    assert n.due_at is not None
    assert timedelta(minutes=58) < n.due_at - bench.core.clock.now() < timedelta(minutes=61)
    assert [e.type for e in await bench.events(n.id)] == ["notification.queued", "notification.deferred"]
    told = await explain(http, member=member, purpose="welcome")
    assert (told["verdict"], told["reason"]) == ("defer", "quiet_hours")
    assert datetime.fromisoformat(told["until"]) == n.due_at
    later = f"{n.due_at + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    assert (await explain(http, member=member, purpose="welcome", at=later))["verdict"] == "send"
    held = (await http.get("/v1/notifications/summary", params={"unit": "BR-SARAN"})).json()["items"]
    assert {"state": "deferred", "reason": "quiet_hours", "count": 1} in held
    listed = (await http.get("/v1/notifications", params={"reason": "quiet_hours"})).json()["items"]
    assert [each["id"] for each in listed] == [n.id]

    assert (await put(http, 1)).json()["judged_again"] == 1
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT
    decisions = (await http.get(f"/v1/notifications/{n.id}")).json()["decisions"]
    assert [(d["verdict"], d["reason"], d["policy"]) for d in decisions] == [
        ("defer", "quiet_hours", 1),
        ("send", None, 2),
    ]


async def test_a_budget_counts_people_and_leaves_the_rest_for_later(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers
) -> None:
    await put(http, budgets=[{"channel": "whatsapp", "recipients": 4}])  # a welcome may use 95 % of them: 3
    people = [(await queued(bench, peers, phone=f"+9198765000{i:02}"))[0] for i in range(5)]
    twin, _ = await queued(bench, peers, phone="+919876500000")
    await bench.dispatch()
    states = [(await bench.welcome(member)) for member in [*people, twin]]
    sent = [n for n in states if n.state is State.SENT]
    reached = {bench_phone(peers, n.member_id) for n in sent}
    assert len(reached) == 3, "people, however many messages"
    waiting = [n for n in states if n.state is State.QUEUED]
    assert {n.deferred_for for n in waiting} == {"budget"}
    assert len(sent) + len(waiting) == 6
    for n in waiting:
        assert n.due_at is not None
        assert timedelta(hours=24) <= n.due_at - bench.core.clock.now() <= timedelta(hours=24, minutes=15)
    told = await explain(http, member=waiting[0].member_id, purpose="welcome")
    assert (told["verdict"], told["reason"]) == ("defer", "budget")
    assert (await explain(http, member=sent[0].member_id, purpose="welcome"))["verdict"] == "send"
    before = await bench.database["budgets"].find_one({})
    assert before == await bench.database["budgets"].find_one({}), "an explanation takes no place"
    assert (await put(http, 1)).json()["judged_again"] == len(waiting)
    await bench.dispatch()
    assert {(await bench.welcome(member)).state for member in people} == {State.SENT}


def bench_phone(peers: Peers, member_id: str) -> str | None:
    return peers.people[member_id].phone


async def broadcasts(bench: Bench, peers: Peers, count: int) -> list[str]:
    """As a broadcast will make them: due now, to members who agreed to it."""
    now, made = bench.core.clock.now(), []
    for _ in range(count):
        member = peers.add_member(consents=[{"purpose": "broadcast", "channel": "whatsapp"}])
        await bench.deliver(joined(member), assigned(member, "0" * 8 + new_id()[8:]))
        made.append(
            Notification(
                id=new_id(),
                member_id=member,
                unit="BR-SARAN",
                purpose="broadcast",
                template="welcome_no_group",
                language="hi",
                channel="whatsapp",
                state=State.QUEUED,
                due_at=now,
                cause=Cause("c", ""),
                created_at=now,
                updated_at=now,
            )
        )
    await bench.database["notifications"].delete_many({})

    async def body(work: Any) -> None:
        await bench.core.notifications.add(made, work.session)

    await bench.runtime.outbox.transact(body)
    return [n.id for n in made]


async def found(bench: Bench, ids: list[str]) -> set[tuple[str, str | None]]:
    rows = bench.database["notifications"].find({"_id": {"$in": ids}})
    return {(row["state"], row.get("reason") or row.get("deferred_for")) async for row in rows}


async def test_a_silence_window_that_begins_while_messages_wait_lets_none_of_them_go(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers
) -> None:
    ids = await broadcasts(bench, peers, 30)
    closes = f"{datetime.now(UTC) + timedelta(hours=20):%Y-%m-%dT%H:%M:%SZ}"
    window = {"id": "phase-1", "units": ["BR-SARAN"], "poll_closes_at": closes, "hours": 48}
    assert (await put(http, certificates=False, silence_windows=[window])).status_code == 200
    [n] = await bench.database["notifications"].find({"_id": ids[0]}).to_list(None)
    told = await explain(http, member=n["member_id"], purpose="broadcast")
    assert (told["verdict"], told["reason"]) == ("suppress", "silence")
    await bench.dispatch()
    assert await found(bench, ids) == {("suppressed", "silence")}
    assert await bench.database["recorded_messages"].count_documents({}) == 0


async def test_election_matter_needs_a_certificate(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers
) -> None:
    ids = await broadcasts(bench, peers, 1)
    await put(http)
    [n] = await bench.database["notifications"].find({"_id": ids[0]}).to_list(None)
    told = await explain(http, member=n["member_id"], purpose="broadcast", certificate="MCMC/4")
    assert told["verdict"] == "send"
    await bench.dispatch()
    assert await found(bench, ids) == {("suppressed", "no_certificate")}


async def test_a_cap_defers_the_next_broadcast(http: httpx2.AsyncClient, bench: Bench, peers: Peers) -> None:
    cap = {"purposes": ["broadcast"], "messages": 1, "days": 7}
    await put(http, certificates=False, frequency_caps=[cap])
    [first] = await broadcasts(bench, peers, 1)
    await bench.dispatch()
    assert await found(bench, [first]) == {("sent", None)}
    rows = bench.database["notifications"]
    row = await rows.find_one({"_id": first})
    assert row is not None
    second = {**row, "_id": new_id(), "state": "queued", "open": True, "due_at": row["created_at"]}
    await rows.insert_one(second | {"attempts": []})
    await bench.dispatch()
    assert await found(bench, [second["_id"]]) == {("queued", "frequency_cap")}


async def test_a_cap_counts_what_goes_in_the_same_batch(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers
) -> None:
    cap = {"purposes": ["broadcast"], "messages": 2, "days": 7}
    await put(http, certificates=False, frequency_caps=[cap])
    [first] = await broadcasts(bench, peers, 1)
    rows = bench.database["notifications"]
    row = await rows.find_one({"_id": first})
    assert row is not None
    ids = [first, *(new_id() for _ in range(3))]
    await rows.insert_many([row | {"_id": id_} for id_ in ids[1:]])
    await bench.dispatch()
    states = [each["state"] async for each in rows.find({"_id": {"$in": ids}})]
    assert sorted(states) == ["queued", "queued", "sent", "sent"]
    assert await bench.database["pairs"].count_documents({}) == 0, "others may judge now"


async def test_a_batch_that_fails_leaves_nothing_behind_in_memory(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap = {"purposes": ["broadcast"], "messages": 1, "days": 7}
    await put(http, certificates=False, frequency_caps=[cap])
    await broadcasts(bench, peers, 1)

    async def down(*args: Any, **options: Any) -> set[str]:
        raise TransientError("MongoDB does not answer")

    monkeypatch.setattr(bench.dispatcher._recorder, "record", down)
    with pytest.raises(TransientError):
        await bench.dispatch()
    assert await bench.database["pairs"].count_documents({}) == 1, "others wait until its time is over"
    assert bench.dispatcher._asking._held == {}


async def test_a_cap_counts_what_another_process_is_about_to_send(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(
        http, certificates=False, frequency_caps=[{"purposes": ["broadcast"], "messages": 1, "days": 7}]
    )
    [first] = await broadcasts(bench, peers, 1)
    rows = bench.database["notifications"]
    row = await rows.find_one({"_id": first})
    assert row is not None
    second, other = row | {"_id": new_id()}, replica(Scripted(SENT))
    record = bench.dispatcher._recorder.record

    async def late(*args: Any, **options: Any) -> set[str]:
        """Sent, and not yet recorded."""
        monkeypatch.setattr(bench.dispatcher._recorder, "record", record)
        await rows.insert_one(second)
        await other.dispatch()
        return await record(*args, **options)

    monkeypatch.setattr(bench.dispatcher._recorder, "record", late)
    await bench.dispatch()
    assert await found(bench, [first, second["_id"]]) == {("sent", None), ("queued", None)}
    await bench.passes(timedelta(seconds=10))
    await other.dispatch()
    assert await found(bench, [second["_id"]]) == {("queued", "frequency_cap")}


async def test_policies_put_while_a_batch_is_judged_judge_it_again(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(http, quiet_hours=[now_is_quiet()])
    member, _ = await queued(bench, peers)
    record = bench.dispatcher._recorder.record

    async def late(*args: Any, **options: Any) -> set[str]:
        """The batch is judged, and nothing of it is written yet."""
        monkeypatch.setattr(bench.dispatcher._recorder, "record", record)
        assert (await put(http, 1)).json()["judged_again"] == 0
        return await record(*args, **options)

    monkeypatch.setattr(bench.dispatcher._recorder, "record", late)
    await bench.dispatch()
    await bench.dispatch()
    assert (await bench.welcome(member)).state is State.SENT


async def test_what_waits_for_an_approved_text_is_shown_as_such(bench: Bench) -> None:
    now = bench.clock.now()
    bench.core.metrics.show_held({"template_not_approved": (3, now), "budget": (2, now)}, now)
    held = bench.core.metrics.held
    assert held.labels("template_not_approved")._value.get() == 3
    assert held.labels("other")._value.get() == 0


async def test_a_member_s_own_channel_comes_first(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers
) -> None:
    member, _ = await queued(bench, peers, preferred_channel="email")
    assert (await explain(http, member=member, purpose="welcome"))["channel"] == "email"
    assert (await explain(http, member=member, purpose="welcome", channel="sms"))["channel"] == "sms"
    await bench.dispatch()
    assert (await bench.welcome(member)).channel == "email"


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"zone": "Asia/Patna"}, "/zone"),
        ({"quiet_hours": [now_is_quiet() | {"begins": "09:00", "until": "09:00"}]}, "/quiet_hours/0/until"),
        ({"quiet_hours": [now_is_quiet() | {"begins": "24:00"}]}, "/quiet_hours/0/begins"),
        ({"quiet_hours": [now_is_quiet(), now_is_quiet()]}, "/quiet_hours/1/name"),
        (
            {
                "silence_windows": 2
                * [{"id": "p1", "units": ["BR"], "poll_closes_at": "2026-11-06T12:30:00Z", "hours": 48}]
            },
            "/silence_windows/1/id",
        ),
        ({"budgets": [{"channel": "whatsapp", "recipients": 0}]}, "/budgets/0/recipients"),
        ({"rates": [{"channel": "pigeon", "per_second": 1}]}, "/rates/0/channel"),
        ({"frequency_caps": [{"purposes": ["service"], "messages": 1, "days": 1}]}, "/frequency_caps/0"),
    ],
)
async def test_policies_that_make_no_sense_are_refused(
    http: httpx2.AsyncClient, changed: dict[str, Any], pointer: str
) -> None:
    answer = await put(http, **changed)
    assert answer.status_code == 422, answer.text
    assert pointer in answer.text
    assert (await http.get("/v1/policies")).json()["version"] == 0


async def test_policies_are_changed_by_whoever_has_all_units_and_read_the_newest(
    http: httpx2.AsyncClient, keys: Keys
) -> None:
    shipped = await http.get("/v1/policies")
    assert shipped.headers["etag"] == '"0"'
    assert shipped.json()["quiet_hours"][0]["begins"] == "21:00"
    assert (await put(http)).status_code == 200
    assert (await put(http)).status_code == 412
    assert (await put(http, 1)).headers["etag"] == '"1"', "the same again changes nothing"
    assert (await put(http, 1, certificates=False)).headers["etag"] == '"2"'
    versions = (await http.get("/v1/policies/versions")).json()["items"]
    assert [each["version"] for each in versions] == [2, 1]
    http.headers |= as_caller(keys, "BR-SARAN")
    assert (await put(http, 2)).status_code in (403, 404)
    assert (
        await http.get("/v1/explain", params={"member": new_id(), "purpose": "welcome"})
    ).status_code == 404


async def run_job(bench: Bench, job_id: str) -> Any:
    """Take the job's steps one after the other; its result."""
    kind = ResendJob(Resending(bench.core, store := FailedStore(bench.database)), store).kind
    job = await bench.runtime.jobs.get(job_id)
    assert job is not None
    while job.state != "succeeded":
        effect = await kind.step(job)

        async def body(work: UnitOfWork, effect: Effect = effect) -> Advance:
            return await effect(work)

        advance = await bench.runtime.outbox.transact(body)
        job = advanced(job, advance, bench.core.clock.now())
    return job.result


async def test_what_has_failed_is_sent_again_once(
    http: httpx2.AsyncClient, bench: Bench, peers: Peers, replica: Replica
) -> None:
    sender = Scripted(SendOutcome(OutcomeClass.PERMANENT, "refused"))
    sending = replica(sender)
    member, _ = await queued(bench, peers)
    others = [(await queued(bench, peers))[0] for _ in range(3)]
    await sending.dispatch()
    n = await bench.welcome(member)
    assert (n.state, n.reason) == (State.FAILED, "refused")
    again = await http.post(f"/v1/notifications/{n.id}/resend")
    assert again.status_code == 200, again.text
    assert (await http.post(f"/v1/notifications/{n.id}/resend")).status_code == 409
    wanted = {"reason": "refused", "unit": "BR-SARAN"}
    counted = await http.post("/v1/notifications/resends", json=wanted | {"dry_run": True})
    assert counted.json() == {"count": 3}
    job = await http.post("/v1/notifications/resends", json=wanted)
    assert job.status_code == 202
    assert await run_job(bench, job.json()["id"]) == {"queued": 3}
    sender.outcomes = [SendOutcome(OutcomeClass.SENT)]
    await sending.dispatch()
    assert {(await bench.welcome(each)).state for each in [member, *others]} == {State.SENT}
    unknown = await http.post("/v1/notifications/resends", json=wanted | {"reason": "outcome_unknown"})
    assert unknown.status_code == 409
