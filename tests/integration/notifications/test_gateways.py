"""Sending through gateways, on their simulators: what is certain is recorded, the rest is not sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest
import pytest_asyncio

from infra.simulators import ExotelSimulator, SmtpSimulator, WhatsAppSimulator
from infra.simulators.exotel.dlt import DltTemplate
from services.notifications.core.channel import Gateways
from services.notifications.core.deliveries.applying import Applied
from services.notifications.core.domain import Meaning, Notification, State
from services.notifications.core.policies.domain import Budget, account_of
from services.notifications.core.updates import Callback, Delivery, Report
from services.notifications.sending.polling import GatewayPolls
from services.notifications.sending.store import BucketStore, PairStore
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from tests.integration.notifications.conftest import START, Bench, assigned, joined
from tests.integration.notifications.registered import register, registered
from tests.integration.notifications.stand_ins import Peers
from tests.unit.notifications.gateway_settings import GATEWAYS

LIMITLESS: dict[str, Any] = {"sms_per_second": 1000, "email_per_second": 1000, "whatsapp_per_second": 1000}


class Field:
    """The three simulators and a replica that sends to them."""

    def __init__(self, sms: ExotelSimulator, mail: SmtpSimulator, chat: WhatsAppSimulator) -> None:
        self.sms, self.mail, self.chat = sms, mail, chat
        self.number = 0
        self.bench: Bench

    def settings(self, settings: NotificationsSettings, **changed: Any) -> NotificationsSettings:
        addresses = {
            "exotel_url": self.sms.url,
            "exotel_account_sid": self.sms.account_sid,
            "exotel_api_key": self.sms.key,
            "exotel_api_token": self.sms.token,
            "exotel_callback_url": "",
            "exotel_header": "SNGTHN",
            "dlt_entity_id": "1101000000000000001",
            "smtp_host": self.mail.host,
            "smtp_port": self.mail.port,
            "smtp_tls": "none",
            "smtp_username": "",
            "whatsapp_url": self.chat.url,
            "whatsapp_token": self.chat.token,
        }
        whole = settings.model_dump() | GATEWAYS | addresses | LIMITLESS | changed
        return NotificationsSettings(**whole)

    def register_at_dlt(self, *names: str) -> None:
        self.sms.dlt.headers.add("SNGTHN")
        self.sms.dlt.entities.add("1101000000000000001")
        for name in names:
            for language in ("hi", "en"):
                shipped = self.bench.core.texts.shipped(name, language)
                assert shipped is not None
                text = registered(shipped.wording.text)
                self.sms.dlt.add(DltTemplate(f"1107{name}_{language}", text))

    async def welcome(self, peers: Peers, *channels: str) -> str:
        """A member with a due welcome who has consented to these channels."""
        self.number += 1
        phone, email = f"+91980000{self.number:04d}", f"member{self.number}@example.org"
        member, group = peers.add_member(phone=phone, email=email), peers.add_group()
        peers.consents(member, *channels)
        await self.bench.deliver(joined(member, channels=channels), assigned(member, group, ready=True))
        return member

    async def of(self, member: str) -> Notification:
        return await self.bench.welcome(member)

    async def told(self, *reports: Report, sender: str = "exotel") -> list[Report]:
        """Apply reports as the routes of callbacks do. Returns those of messages that are not known."""

        async def body(work: Any) -> list[Applied]:
            return await self.bench.core.reports.apply(sender, reports, work)

        applied = await self.bench.runtime.outbox.transact(body)
        await self.bench.core.reports.stop(sender, applied)
        return [each.report for each in applied if each.record is None]


@pytest_asyncio.fixture(loop_scope="session")
async def field(bench: Bench, settings: NotificationsSettings, clock: ManualClock) -> AsyncIterator[Field]:
    sms = ExotelSimulator(per_minute=None, get_per_minute=None)
    mail, chat = SmtpSimulator(), WhatsAppSimulator(lenient=True, messaging_limit=None)
    async with sms, mail, chat:
        made = Field(sms, mail, chat)
        made.bench = Bench(made.settings(settings), clock)
        await made.bench.runtime.server_clock.read()
        await register(made.bench.core, "welcome")
        made.register_at_dlt("welcome")
        yield made
        assert isinstance(made.bench.sender, Gateways)
        await made.bench.sender.close()
        made.bench.runtime.client.close()


def taken(gateway: Any, notification: Notification) -> int:
    """How often a gateway took any handing over of it."""
    numbers = range(1, len(notification.attempts) + 3)
    return sum(len(gateway.ledger.by_reference(f"{notification.id}.{number}")) for number in numbers)


async def delivery(field: Field, notification: Notification, number: int = 1) -> dict[str, Any]:
    row = await field.bench.database["deliveries"].find_one({"_id": f"{notification.id}.{number}"})
    assert row is not None
    return dict(row)


async def test_each_channel_goes_by_its_gateway_and_leaves_a_delivery(field: Field, peers: Peers):
    members = {channel: await field.welcome(peers, channel) for channel in ("sms", "email", "whatsapp")}
    await field.bench.dispatch()
    for channel, gateway in (("sms", field.sms), ("whatsapp", field.chat)):
        n = await field.of(members[channel])
        assert (n.state, n.channel, n.handed, taken(gateway, n)) == (State.SENT, channel, None, 1)
        row = await delivery(field, n)
        assert (row["status"], bool(row["provider_id"])) == ("sent", True)
    n = await field.of(members["email"])
    assert n.state is State.SENT
    [mail] = field.mail.mails
    assert list(mail.recipients) == [peers.people[members["email"]].email]
    events = await field.bench.events(n.id)
    assert [e.type for e in events] == ["notification.queued", "notification.sent"]


@pytest.mark.parametrize("fault", ["reset", "close", "html", "garbage", "empty"])
async def test_an_outcome_that_nobody_knows_is_not_sent_again_and_a_callback_settles_it(
    field: Field, peers: Peers, fault: str
):
    member = await field.welcome(peers, "sms")
    field.sms.steer(fault=fault, taken=True, next=1)
    await field.bench.dispatch()
    n = await field.of(member)
    assert (n.state, n.held_for, taken(field.sms, n)) == (State.SENDING, "outcome", 1)
    await field.bench.passes(timedelta(hours=1))
    await field.bench.dispatch()
    n = await field.of(member)
    assert (n.state, taken(field.sms, n)) == (State.SENDING, 1)
    form = f"SmsSid=s1&Status=delivered&DetailedStatus=DELIVERED_TO_HANDSET&CustomField={n.id}.1"
    assert isinstance(field.bench.sender, Gateways)
    gateway = field.bench.sender.by_channel["sms"]
    reports = [
        each
        for each in gateway.parse(Callback(form.encode(), {}, datetime.now(UTC)))
        if isinstance(each, Report)
    ]
    assert await field.told(*reports) == []
    assert await field.told(*reports) == [], "a repeat changes nothing"
    n = await field.of(member)
    assert (n.state, n.sequence, [a.outcome.value for a in n.attempts]) == (State.SENT, 2, ["sent"])
    assert (await delivery(field, n))["status"] == "delivered"


async def test_an_outcome_that_stays_unknown_ends_as_such(field: Field, peers: Peers):
    member = await field.welcome(peers, "sms")
    field.sms.steer(fault="reset", taken=True, next=1)
    await field.bench.dispatch()
    n = await field.of(member)
    older = {"handed.at": n.handed.at - timedelta(hours=25) if n.handed else None}
    await field.bench.database["notifications"].update_one({"_id": n.id}, {"$set": older})
    await field.bench.passes(timedelta(hours=25))
    await field.bench.dispatch()
    n = await field.of(member)
    assert (n.state, n.reason, taken(field.sms, n)) == (State.FAILED, "outcome_unknown", 1)
    assert [e.type for e in await field.bench.events(n.id)][-1] == "notification.failed"


async def test_who_finds_a_mark_of_a_process_that_died_sends_nothing(
    field: Field, peers: Peers, monkeypatch: pytest.MonkeyPatch
):
    """It dies after the gateway took the message (and the delivery tells), or after the mark alone."""
    members = [await field.welcome(peers, "sms") for _ in range(2)]

    class DiedError(BaseException):
        pass

    async def dies(*args: object, **kwargs: object) -> None:
        raise DiedError

    handover = field.bench.dispatcher._handover
    assert handover is not None
    with monkeypatch.context() as patched:
        patched.setattr(field.bench.dispatcher._recorder, "record", dies)
        with pytest.raises(DiedError):
            await field.bench.dispatch()
    marked = [await field.of(member) for member in members]
    assert all(n.state is State.SENDING and n.handed for n in marked)
    assert [taken(field.sms, n) for n in marked] == [1, 1]
    lost = {"status": "queued"}
    await field.bench.database["deliveries"].update_one(
        {"_id": f"{marked[1].id}.1"}, {"$set": lost, "$unset": {"provider_id": ""}}
    )
    await field.bench.passes(timedelta(seconds=61))
    await field.bench.dispatch()
    one, other = [await field.of(member) for member in members]
    assert (one.state, other.state, other.held_for) == (State.SENT, State.SENDING, "outcome")
    assert [taken(field.sms, n) for n in (one, other)] == [1, 1]


async def test_beside_processes_that_still_record_nothing_goes_twice(
    field: Field, peers: Peers, settings: NotificationsSettings, clock: ManualClock
):
    """As in an upgrade that switches the gateways on: a recording process leaves alone what a gateway may
    have, and what one had claimed when it died goes once."""
    unknown, claimed = [await field.welcome(peers, "sms") for _ in range(2)]
    notifications = field.bench.database["notifications"]
    before = {"state": "sending", "claim": "of-release-0.1.0"}
    later = datetime.now(UTC) + timedelta(hours=1)
    await notifications.update_one({"member_id": claimed}, {"$set": {**before, "due_at": later}})
    field.sms.steer(fault="reset", taken=True, next=1)
    await field.bench.dispatch()
    field.sms.calm()
    recording = Bench(settings, clock)
    await field.bench.passes(timedelta(minutes=30))
    await recording.dispatch()
    n = await field.of(unknown)
    assert (n.state, n.held_for) == (State.SENDING, "outcome")
    assert await recording.recorded(n.id) is None
    await _time_passes(field, timedelta(hours=1))
    await field.bench.dispatch()
    assert [taken(field.sms, await field.of(member)) for member in (unknown, claimed)] == [1, 1]
    assert (await field.of(claimed)).state is State.SENT
    recording.runtime.client.close()


async def test_what_whatsapp_cannot_deliver_goes_by_sms_each_step_on_record(field: Field, peers: Peers):
    """At once, or told by a callback after it was taken."""
    members = [await field.welcome(peers, "whatsapp", "sms") for _ in range(2)]
    phones = [peers.people[member].phone or "" for member in members]
    field.chat.steer(recipient=phones[0], error=131026, via="answer")
    await field.bench.dispatch()
    await field.bench.dispatch()
    one, other = [await field.of(member) for member in members]
    assert (one.state, one.channel) == (State.SENT, "sms")
    assert [(a.sender, a.error_class) for a in one.attempts] == [
        ("whatsapp", "undeliverable"),
        ("exotel", None),
    ]
    assert other.channel == "whatsapp"
    row = await delivery(field, other)
    form = {"id": row["provider_id"], "status": "failed", "errors": [{"code": 131026}]}
    changes = [{"field": "messages", "value": {"statuses": [form]}}]
    whole = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}
    assert isinstance(field.bench.sender, Gateways)
    gateway = field.bench.sender.by_channel["whatsapp"]
    reports = [
        each
        for each in gateway.parse(Callback(orjson.dumps(whole), {}, datetime.now(UTC)))
        if isinstance(each, Report)
    ]
    await field.told(*reports, sender="whatsapp")
    await field.told(*reports, sender="whatsapp")
    await field.bench.dispatch()
    other = await field.of(members[1])
    assert (other.state, other.channel, taken(field.sms, other)) == (State.SENT, "sms", 1)
    types = [e.type for e in await field.bench.events(other.id)]
    assert types == [
        "notification.queued",
        "notification.sent",
        "notification.queued",
        "notification.sent",
    ]


async def test_a_message_that_fails_on_every_channel_fails(field: Field, peers: Peers):
    member = await field.welcome(peers, "sms")
    field.sms.steer(recipient=peers.people[member].phone, error="409")
    await field.bench.dispatch()
    assert (await field.of(member)).state is State.FAILED
    only = await field.welcome(peers, "email")
    field.mail.steer(recipient=peers.people[only].email, error="550 5.1.1 No such user")
    await field.bench.dispatch()
    await field.bench.dispatch()
    n = await field.of(only)
    assert (n.state, n.reason, len(n.attempts)) == (State.FAILED, "undeliverable", 1)


async def test_a_channel_without_a_gateway_is_not_used_and_waited_for(
    field: Field, peers: Peers, settings: NotificationsSettings, clock: ManualClock
):
    both, only = await field.welcome(peers, "whatsapp", "sms"), await field.welcome(peers, "whatsapp")
    one = Bench(field.settings(settings, whatsapp_gateway="none"), clock)
    await one.dispatch()
    assert ((await field.of(both)).state, (await field.of(both)).channel) == (State.SENT, "sms")
    n = await field.of(only)
    assert (n.state, n.held_for) == (State.QUEUED, "no_gateway")
    one.runtime.client.close()


async def test_an_account_that_is_stopped_opens_a_breaker_for_all_processes_and_a_probe_closes_it(
    field: Field, peers: Peers, settings: NotificationsSettings, clock: ManualClock
):
    members = [await field.welcome(peers, "sms") for _ in range(3)]
    field.sms.steer(error="ACCOUNT_SUSPENDED")
    await field.bench.dispatch()
    refused = field.sms.ledger.refused.total()
    states = [await field.of(member) for member in members]
    assert [(n.state, n.attempts, n.handed) for n in states] == [(State.QUEUED, (), None)] * 3
    assert await field.bench.core.breakers.count() == {("exotel", "account"): 1}
    other = Bench(field.settings(settings), clock)
    late = await field.welcome(peers, "sms")
    await other.dispatch()
    assert ((await field.of(late)).state, field.sms.ledger.refused.total()) == (State.QUEUED, refused)
    await _time_passes(field, timedelta(minutes=6))
    await other.dispatch()
    assert field.sms.ledger.refused.total() == refused + 1, "one probe"
    field.sms.calm()
    await _time_passes(field, timedelta(minutes=30))
    for _ in range(3):
        await field.bench.dispatch()
        await _time_passes(field, timedelta(minutes=30))
    assert {(await field.of(member)).state for member in [*members, late]} == {State.SENT}
    assert await field.bench.core.breakers.count() == {}
    other.runtime.client.close()


async def _time_passes(field: Field, time: timedelta) -> None:
    await field.bench.passes(time)
    ms = int(time.total_seconds() * 1000)
    older = {"$set": {"until": {"$subtract": ["$until", ms]}}}
    await field.bench.database["breakers"].update_many({}, [older])


async def test_a_gateway_that_is_down_costs_no_try(field: Field, peers: Peers, settings, clock):
    member = await field.welcome(peers, "sms")
    one = Bench(field.settings(settings, exotel_url="http://127.0.0.1:1"), clock)
    await one.dispatch()
    n = await field.of(member)
    assert (n.state, n.attempts, n.handed) == (State.QUEUED, (), None)
    assert await one.core.breakers.count() == {("exotel", "account"): 1}
    one.runtime.client.close()


async def test_two_processes_share_the_rate_of_a_number(bench: Bench):
    one, other = BucketStore(bench.database), BucketStore(bench.database)
    assert await one.take("exotel:SNGTHN", 7, 0.001, 10) == 7
    assert await other.take("exotel:SNGTHN", 7, 0.001, 10) == 3
    assert await one.take("exotel:SNGTHN", 7, 0.001, 10) == 0
    assert await one.take("exotel:OTHER", 7, 0.001, 10) == 7


async def test_two_processes_send_nobody_two_at_once(bench: Bench):
    one, other = PairStore(bench.database), PairStore(bench.database)
    assert await one.take({"n:a", "n:b"}, 60) == {"n:a", "n:b"}
    assert await other.take({"n:b", "n:c"}, 60) == {"n:c"}
    assert await other.take({"m:b"}, 60) == {"m:b"}
    await bench.database["pairs"].update_one({"_id": "n:b"}, {"$set": {"until": START}})
    assert await other.take({"n:a", "n:b"}, 60) == {"n:b"}


async def test_whoever_has_just_got_a_message_on_whatsapp_waits_for_the_next(field: Field, peers: Peers):
    """Two members may have one number, and two processes one of them each."""
    phone = "+919812300001"
    one, other = await field.welcome(peers, "whatsapp"), await field.welcome(peers, "whatsapp")
    for member in (one, other):
        peers.add_member(member, phone=phone)
        peers.consents(member, "whatsapp")
    field.chat.opens_window(phone)
    notifications = field.bench.database["notifications"]
    later = datetime.now(UTC) + timedelta(hours=1)
    await notifications.update_one({"member_id": other}, {"$set": {"due_at": later}})
    await field.bench.dispatch()
    await _time_passes(field, timedelta(hours=2))
    await field.bench.dispatch()
    assert [(await field.of(member)).state for member in (one, other)] == [State.SENT, State.QUEUED]
    waiting = await field.of(other)
    assert (waiting.attempts, waiting.deferred_for) == ((), "pair_rate")
    assert [(d.verdict, d.reason) for d in waiting.decisions or ()] == [("defer", "pair_rate")]
    assert "notification.deferred" not in [e.type for e in await field.bench.events(waiting.id)], "for 6 s"
    await field.bench.database["pairs"].update_many({}, {"$set": {"until": START}})
    await _time_passes(field, timedelta(minutes=1))
    await field.bench.dispatch()
    assert (await field.of(other)).state is State.SENT


async def test_a_message_beyond_the_rate_waits_its_turn(
    field: Field, peers: Peers, settings: NotificationsSettings, clock: ManualClock
):
    members = [await field.welcome(peers, "sms") for _ in range(5)]
    slow = Bench(field.settings(settings, sms_per_second=2), clock)
    await slow.dispatch()
    states = [(await field.of(member)).state for member in members]
    assert (states.count(State.SENT), states.count(State.QUEUED)) == (2, 3)
    slow.runtime.client.close()


async def test_a_poll_tells_what_no_callback_did(field: Field, peers: Peers):
    """A failure that is learnt so lets another channel take the message."""
    member = await field.welcome(peers, "sms", "email")
    field.sms.steer(outcome="FAILED_INVALID_NUMBER", callback=False)
    await field.bench.dispatch()
    assert (await field.of(member)).channel == "sms"
    await field.sms.settled(hurry=True)
    await field.bench.database["deliveries"].update_many({}, {"$set": {"poll_at": START}})
    assert isinstance(field.bench.sender, Gateways)
    await GatewayPolls(field.bench.core, field.bench.sender).poll()
    await field.bench.dispatch()
    n = await field.of(member)
    assert (n.state, n.channel) == (State.SENT, "email")
    assert (await delivery(field, n))["error_class"] == "invalid_number"


async def test_news_of_a_message_that_is_not_known_is_given_back(field: Field):
    stray = Report("sid", "nobody.1", Delivery.SENT, datetime.now(UTC))
    assert await field.told(stray) == [stray]


async def opened(field: Field, phone: str, at: datetime) -> str:
    """Somebody wrote to us at that time; returns the fingerprint of their number."""
    await field.bench.core.fingerprints.ready()
    who = field.bench.core.fingerprints.of("whatsapp", phone)

    async def body(work: Any) -> None:
        await field.bench.core.windows.open({("whatsapp", who): at}, work.session)

    await field.bench.runtime.outbox.transact(body)
    return who


async def test_a_window_that_the_provider_takes_for_closed_is_closed(field: Field, peers: Peers):
    member = await field.welcome(peers, "whatsapp", "sms")
    phone, now = peers.people[member].phone, datetime.now(UTC)
    assert phone is not None
    await field.bench.dispatch()
    n, windows = await field.of(member), field.bench.core.windows
    who = await opened(field, phone, now - timedelta(hours=2))
    assert await windows.opened("whatsapp", {who}, now) == {who}
    failed = Report(
        None, f"{n.id}.1", Delivery.FAILED, now, "131047", Meaning.ROUTE, "window_closed", category=None
    )
    await field.told(failed, sender="whatsapp")
    assert await windows.opened("whatsapp", {who}, now) == set()
    await opened(field, phone, now + timedelta(seconds=5))
    await field.bench.database["deliveries"].update_many({}, {"$set": {"status": "sent"}})
    await field.told(failed, sender="whatsapp")
    assert await windows.opened("whatsapp", {who}, now) == {who}, "opened since"


async def test_who_was_not_reached_costs_the_budget_nothing(field: Field, peers: Peers):
    """Nor who has written to us within a day; and the provider's limit counts if it is less than ours."""
    ours = (Budget("whatsapp", 50),)
    policies = replace(await field.bench.core.policies.current(), version=1, budgets=ours)
    await field.bench.core.policies.add(policies, field.bench.clock.now(), "test")
    budgets = field.bench.core.budgets
    gateways = cast(Gateways, field.bench.sender)
    account = account_of("whatsapp", gateways.by_channel["whatsapp"].account)
    reached, refused = [await field.welcome(peers, "whatsapp", "sms") for _ in range(2)]
    field.chat.steer(recipient=peers.people[refused].phone, error=131026, via="answer")
    await field.bench.dispatch()
    assert (await field.of(reached)).channel == "whatsapp"
    now = datetime.now(UTC)
    assert (await budgets.spent(account, now))[0] == 1
    await budgets.told(account, 1, now)
    await budgets.told(account, 100_000, now - timedelta(hours=1))
    assert await budgets.limit(account) == 1, "what was said before it changes nothing"
    writes, waits = [await field.welcome(peers, "whatsapp") for _ in range(2)]
    phone = peers.people[writes].phone
    assert phone is not None
    field.chat.opens_window(phone)
    await field.bench.core.fingerprints.ready()
    await opened(field, phone, now)
    await field.bench.dispatch()
    assert (await field.of(writes)).state is State.SENT
    assert (await field.of(waits)).deferred_for == "budget"
    assert (await budgets.spent(account, now))[0] == 1
    await budgets.told(account, None, now)
    assert await budgets.limit(account) is None
