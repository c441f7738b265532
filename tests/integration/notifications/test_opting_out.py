"""STOP acts at once, by whoever sends it, and is lifted only from the very address. Of other answers the
others hear ids alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.notifications.core.domain import Meaning, State
from services.notifications.core.policies.domain import SERVICE
from services.notifications.core.updates import (
    Delivery,
    IdentityChanged,
    Inbound,
    Person,
    PreferenceChanged,
    Report,
)
from services.shared.contracts.base import Event
from services.shared.ids import new_id
from tests.integration.notifications.callbacks import Hooks
from tests.integration.notifications.conftest import assigned, invite, joined
from tests.integration.notifications.stand_ins import Peers
from tests.integration.notifications.test_erasure import request

PHONE = "+919800000001"
OTHER = "+919800000002"
USER = "IN.1000000000000000001"
STOP_NUMBER = "+918047000001"
JOIN_NUMBER = "+918047000002"


def said(text: str, phone: str | None = PHONE, *, user_id: str | None = None, **changed: Any) -> Inbound:
    at = changed.pop("at")
    return Inbound(f"in.{new_id()}", Person(phone, user_id), at, text=text, **changed)


async def a_member(
    hooks: Hooks, peers: Peers, phone: str = PHONE, *, channels: tuple[str, ...] = ("whatsapp",)
) -> str:
    """Their welcome waits to be sent, and something was sent to them before."""
    member_id, group_id = peers.add_member(phone=phone), peers.add_group()
    peers.consents(member_id, *channels)
    await hooks.bench.deliver(
        invite(group_id, 1), joined(member_id, language="en"), assigned(member_id, group_id)
    )
    await hooks.sent_to(member_id, phone)
    return member_id


async def published(hooks: Hooks, member_id: str) -> list[Event]:
    return [event.data for event in await hooks.bench.events(member_id)]


async def texts(hooks: Hooks, member_id: str) -> list[str]:
    """The texts of all messages that were sent to the member."""
    rows = await hooks.database["recorded_messages"].find({"member_id": member_id}).to_list(None)
    opened = await hooks.bench.core.vault.open([(row["_id"], row["sealed"]) for row in rows])
    return [each["text"] for each in opened]


async def test_stop_suppresses_tells_the_others_and_is_confirmed_once(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers)
    await hooks.tell(said("रोकें।", at=hooks.now()), said("STOP", at=hooks.now()))
    await hooks.tell(said("Stop!", at=hooks.now()))
    [event] = await published(hooks, member_id)
    assert event.model_dump() == {
        "member_id": member_id,
        "unit": "BR-SARAN",
        "channel": "whatsapp",
        "purposes": ("welcome", "broadcast", "reminder"),
        "via": "stop",
    }
    await hooks.bench.dispatch()
    rows = await hooks.database["notifications"].find({"member_id": member_id}).to_list(None)
    ended = {row["purpose"]: (row["state"], row.get("reason")) for row in rows}
    assert ended == {"welcome": (State.SUPPRESSED, "suppressed"), SERVICE: (State.SENT, None)}
    assert await texts(hooks, member_id) == ["As you asked, our messages on this channel have stopped."]
    everything = [await hooks.database[name].find({}).to_list(None) for name in await _collections(hooks)]
    assert "9800000001" not in repr(everything)


async def _collections(hooks: Hooks) -> list[str]:
    names: list[str] = await hooks.database.list_collection_names()
    return names


async def test_another_channel_that_was_not_stopped_is_used(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers, channels=("whatsapp", "sms"))
    await hooks.tell(said("stop", at=hooks.now()))
    await hooks.bench.dispatch()
    welcome = await hooks.database["notifications"].find_one({"member_id": member_id, "purpose": "welcome"})
    assert welcome is not None
    assert (welcome["state"], welcome["channel"]) == (State.SENT, "sms")


async def test_the_stop_of_a_stranger_counts_when_they_are_a_member(hooks: Hooks, peers: Peers) -> None:
    await hooks.tell(said("band karo", "919800000001", at=hooks.now()))
    assert await hooks.database["outbox"].count_documents({}) == 0
    member_id = await a_member(hooks, peers)
    await hooks.bench.dispatch()
    assert (await hooks.bench.welcome(member_id)).reason == "suppressed"


async def test_only_a_start_from_the_very_address_lifts_a_stop(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers)
    stopped = hooks.now()
    await hooks.tell(said("STOP", at=stopped))
    await hooks.tell(said("START", OTHER, at=stopped + timedelta(seconds=1)))
    await hooks.tell(said("START", at=stopped - timedelta(minutes=1)))  # it was sent before, and came late
    assert await _stopped(hooks) == 1
    await hooks.tell(said("चालू करें", at=hooks.now()))
    assert await _stopped(hooks) == 0
    await hooks.tell(said("STOP", at=stopped))  # late too
    assert await _stopped(hooks) == 0
    assert [e.event_type for e in await published(hooks, member_id)] == ["member.opted_out"]
    await hooks.tell(said("STOP", at=hooks.now()))
    assert [e.event_type for e in await published(hooks, member_id)] == ["member.opted_out"] * 2


async def _stopped(hooks: Hooks) -> int:
    return int(await hooks.database["suppressions"].count_documents({"purposes.0": {"$exists": True}}))


async def test_a_switch_of_the_provider_stops_broadcasts_alone(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers)
    of = Person(PHONE, None)
    await hooks.tell(PreferenceChanged(of, "marketing_messages", True, hooks.now()))
    [event] = await published(hooks, member_id)
    assert (event.via, event.purposes) == ("preference", ("broadcast",))  # type: ignore[attr-defined]
    await hooks.bench.dispatch()
    assert (
        await hooks.database["notifications"].count_documents({"purpose": "welcome", "state": "sent"})
    ) == 1
    await hooks.tell(said("STOP", at=hooks.now()))
    await hooks.tell(PreferenceChanged(of, "marketing_messages", False, hooks.now()))
    assert await _stopped(hooks) == 1


async def test_missed_calls_stop_or_ask_to_join(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers)
    call: dict[str, Any] = {"missed_call": True, "at": hooks.now()}
    await hooks.tell(
        said("", to=STOP_NUMBER, **call),
        said("", OTHER, to=JOIN_NUMBER, **call),
        said("", OTHER, to="+911234", **call),
        source="sms/exotel",
    )
    [event] = await published(hooks, member_id)
    assert (event.via, event.channel) == ("missed_call", "sms")  # type: ignore[attr-defined]
    headers = {"authorization": f"Bearer {hooks.token('contacts:read notifications:write')}"}
    [caller] = (await hooks.http.get("/v1/callers", headers=headers)).json()["items"]
    assert caller["phone"] == OTHER
    assert (await hooks.http.delete(f"/v1/callers/{caller['id']}", headers=headers)).status_code == 204
    assert (await hooks.http.get("/v1/callers", headers=headers)).json()["items"] == []
    assert (await hooks.http.delete(f"/v1/callers/{caller['id']}", headers=headers)).status_code == 404


async def test_an_answer_is_told_by_ids_alone(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers)
    record = await hooks.sent_to(member_id, PHONE)
    text = "We have got to STOP this bill"
    await hooks.tell(said(text, at=hooks.now(), answers=record.provider_id, payload="rsvp:yes:ev42"))
    await hooks.tell(said("nobody knows me", OTHER, at=hooks.now()))
    [event] = await published(hooks, member_id)
    assert event.event_type == "member.replied"
    assert (event.kind, event.notification_id) == ("button", record.notification_id)  # type: ignore[attr-defined]
    assert text not in repr(await hooks.database["outbox"].find({}).to_list(None))
    rows = await hooks.database["inbound"].find({}).to_list(None)
    assert [("sealed" in row, row.get("member_id")) for row in rows] == [(True, member_id), (False, None)]


async def test_an_opt_out_that_was_inferred_is_for_a_look(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers)
    record = await hooks.sent_to(member_id, PHONE)
    failed = Report(
        record.provider_id, None, Delivery.FAILED, hooks.now(), "131050", Meaning.CONSENT, "opted_out"
    )
    await hooks.tell(failed)
    assert await published(hooks, member_id) == []
    headers = {"authorization": f"Bearer {hooks.token('notifications:read notifications:write', 'BR-SARAN')}"}
    elsewhere = {
        "authorization": f"Bearer {hooks.token('notifications:read notifications:write', 'BR-GAYA')}"
    }
    assert (await hooks.http.get("/v1/opt-outs/inferred", headers=elsewhere)).json()["items"] == []
    [listed] = (await hooks.http.get("/v1/opt-outs/inferred", headers=headers)).json()["items"]
    assert (listed["member_id"], listed["code"]) == (member_id, "131050")
    path = f"/v1/opt-outs/{listed['id']}"
    assert (await hooks.http.delete(path, headers=elsewhere)).status_code == 404
    assert (await hooks.http.delete(path, headers=headers)).status_code == 204
    assert await _stopped(hooks) == 0
    await hooks.tell(said("STOP", at=hooks.now()))
    assert (await hooks.http.delete(path, headers=headers)).status_code == 409
    assert await _stopped(hooks) == 1


# -- identities


async def test_who_withholds_the_number_is_known_by_the_id_that_was_reported(
    hooks: Hooks, peers: Peers
) -> None:
    member_id = await a_member(hooks, peers)
    record = await hooks.sent_to(member_id, PHONE)
    await hooks.tell(Report(record.provider_id, None, Delivery.READ, hooks.now(), person=Person(None, USER)))
    await hooks.tell(said("stop", None, user_id=USER, at=hooks.now()))
    assert [e.event_type for e in await published(hooks, member_id)] == ["member.opted_out"]
    await hooks.bench.dispatch()
    assert (await hooks.database["notifications"].count_documents({"reason": "suppressed"})) == 1


async def test_a_stop_by_an_id_holds_for_the_number_that_it_turns_out_to_have(
    hooks: Hooks, peers: Peers
) -> None:
    await hooks.tell(said("stop", None, user_id=USER, at=hooks.now()))
    member_id = await a_member(hooks, peers)
    await hooks.tell(said("hello", PHONE, user_id=USER, at=hooks.now()))
    await hooks.bench.dispatch()
    assert (await hooks.bench.welcome(member_id)).reason == "suppressed"


async def test_a_change_of_number_and_of_id_keeps_the_member_and_the_stop(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers)
    await hooks.tell(said("stop", user_id=USER, at=hooks.now()))
    await hooks.tell(IdentityChanged("sys.1", Person(OTHER, USER), None, hooks.now(), PHONE))
    changed = IdentityChanged("sys.2", Person(None, "IN.77"), USER, hooks.now())
    await hooks.tell(changed)
    await hooks.tell(changed)
    rows = {row["user_id"]: row async for row in hooks.database["identities"].find({})}
    assert rows["IN.77"]["member_id"] == member_id
    assert rows[USER]["followed_by"] == "IN.77"
    assert [each["user_id"] for each in rows["IN.77"]["history"]] == [USER, USER]
    hooks.bench.core.fingerprints.of("whatsapp", OTHER)
    entries = [f"whatsapp:{hooks.bench.core.fingerprints.of('whatsapp', each)}" for each in (PHONE, OTHER)]
    found = await hooks.bench.core.suppressions.by_id(entries)
    assert [found[each].stopped for each in entries] == [True, True]
    await hooks.tell(said("how are you", None, user_id="IN.77", at=hooks.now()))
    assert [e.event_type for e in await published(hooks, member_id)] == ["member.opted_out", "member.replied"]


async def test_a_second_id_with_a_members_number_does_not_speak_for_them(hooks: Hooks, peers: Peers) -> None:
    member_id = await a_member(hooks, peers)
    await hooks.tell(said("first", user_id=USER, at=hooks.now()))
    await hooks.tell(said("second", user_id="IN.2", at=hooks.now()))
    assert [e.event_type for e in await published(hooks, member_id)] == ["member.replied"]
    rows = {row["user_id"]: row async for row in hooks.database["identities"].find({})}
    assert (rows[USER]["member_id"], rows["IN.2"].get("member_id")) == (member_id, None)
    assert hooks.value("sangathan_identity_conflicts_total") == 1


# -- erasure


async def test_an_erasure_destroys_the_traces_and_keeps_the_stop(hooks: Hooks, peers: Peers) -> None:
    member_id, kept = await a_member(hooks, peers), await a_member(hooks, peers, OTHER)
    await hooks.tell(
        said("hello", user_id=USER, at=hooks.now()), said("hi", OTHER, user_id="IN.2", at=hooks.now())
    )
    await hooks.tell(said("STOP", user_id=USER, at=hooks.now()))
    await hooks.bench.dispatch()
    asked = request(member_id)
    await hooks.bench.deliver(asked)
    [answer] = await hooks.bench.events(asked.data.erasure_id)  # type: ignore[attr-defined]
    destroyed = answer.data.destroyed  # type: ignore[attr-defined]
    assert (destroyed["deliveries"], destroyed["identities"], destroyed["inbound"]) == (1, 1, 2)
    for name in ("deliveries", "identities", "inbound", "suppressions"):
        owners = {row.get("member_id") async for row in hooks.database[name].find({})}
        assert member_id not in owners
        assert kept in owners or name == "suppressions"
    assert await _stopped(hooks) > 0
    again = await a_member(hooks, peers)
    await hooks.bench.dispatch()
    assert (await hooks.bench.welcome(again)).reason == "suppressed"


@pytest.mark.parametrize("first", ["stop", "start"])
async def test_in_one_callback_the_later_wish_counts(hooks: Hooks, first: str) -> None:
    now = hooks.now()
    wishes = [said("start", at=now - timedelta(seconds=1)), said("stop", at=now)]
    await hooks.tell(*(wishes if first == "start" else reversed(wishes)))
    assert await _stopped(hooks) == 1
