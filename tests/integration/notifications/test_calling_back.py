"""The whole way: messages go out through the gateways' simulators, whose callbacks come to the routes over
HTTP, signed, and change what is known and what is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from infra.local.ports import Ports
from infra.simulators import ExotelSimulator, SmtpSimulator, WhatsAppSimulator
from infra.simulators.serving import HttpServer
from services.notifications.core.channel import Gateways
from services.notifications.core.domain import State
from services.notifications.core.policies.domain import SERVICE
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from tests.integration.notifications.callbacks import APP_SECRET, SMS_SECRET, Hooks
from tests.integration.notifications.conftest import Bench, assigned, joined
from tests.integration.notifications.registered import register
from tests.integration.notifications.stand_ins import Peers
from tests.integration.notifications.test_gateways import Field

VERIFY_TOKEN = "a_verify_token_of_ours"
ASHA, BIKRAM, CHANDNI = "+919800000001", "+919800000002", "+919800000003"
STOPPED = "As you asked, our messages on this channel have stopped."


class Whole(Field):
    """A replica whose routes the simulators call."""

    hooks: Hooks

    async def member(self, peers: Peers, phone: str, channel: str) -> str:
        member, group = peers.add_member(phone=phone), peers.add_group()
        peers.consents(member, channel)
        events = joined(member, channels=(channel,), language="en"), assigned(member, group, ready=True)
        await self.bench.deliver(*events)
        return member

    async def called_back(self) -> None:
        """All that the gateways have to tell has come and is applied."""
        for gateway in (self.chat, self.sms):
            await gateway.settled(hurry=True)
        await self.hooks.apply()

    async def deliveries(self) -> dict[str, dict[str, Any]]:
        rows = await self.bench.database["deliveries"].find({}).to_list(None)
        return {row["_id"]: row for row in rows}

    async def heard(self, member: str) -> list[tuple[str, str]]:
        """Events that told others of a member, and the acts by which the member stopped."""
        events = await self.bench.events(member)
        return [(event.type, getattr(event.data, "via", "")) for event in events]


@pytest_asyncio.fixture(loop_scope="session")
async def whole(
    bench: Bench, settings: NotificationsSettings, clock: ManualClock, ports: Ports
) -> AsyncIterator[Whole]:
    port = ports.take()
    routes = f"http://127.0.0.1:{port}/webhooks"
    of_sms = f"{routes}/sms/exotel/{SMS_SECRET}"
    sms = ExotelSimulator(
        strict=False, per_minute=None, get_per_minute=None, inbound_to=of_sms, missed_calls_to=of_sms
    )
    chat = WhatsAppSimulator(
        lenient=True,
        messaging_limit=None,
        webhooks_to=f"{routes}/whatsapp",
        app_secret=APP_SECRET,
        verify_token=VERIFY_TOKEN,
    )
    async with sms, SmtpSimulator() as mail, chat:
        made = Whole(sms, mail, chat)
        changed = {
            "exotel_callback_url": of_sms,
            "sms_callback_secrets": {"exotel": SMS_SECRET},
            "whatsapp_app_secret": APP_SECRET,
            "whatsapp_verify_token": VERIFY_TOKEN,
            "stop_numbers": (sms.number,),
        }
        made.bench = Bench(made.settings(settings, **changed), clock)
        made.hooks = Hooks(made.bench, {})
        await made.bench.runtime.server_clock.read()
        await register(made.bench.core, "welcome")
        await register(made.bench.core, "stopped", channels=("sms",))
        async with HttpServer(made.bench.service.app, port):
            yield made
        await made.hooks.http.aclose()
        assert isinstance(made.bench.sender, Gateways)
        await made.bench.sender.close()
        made.bench.runtime.client.close()


async def test_messages_go_out_and_what_comes_back_is_heard(whole: Whole, peers: Peers) -> None:
    assert await whole.chat.verify() == (200, True)
    asha = await whole.member(peers, ASHA, "whatsapp")
    bikram = await whole.member(peers, BIKRAM, "sms")
    chandni = await whole.member(peers, CHANDNI, "sms")
    whole.chat.opens_window(ASHA)
    whole.chat.steer(recipient=ASHA, outcome="read")
    await whole.bench.dispatch()
    sent = {member: await whole.of(member) for member in (asha, bikram, chandni)}
    assert {n.state for n in sent.values()} == {State.SENT}

    await whole.called_back()
    deliveries = await whole.deliveries()
    of = {member: deliveries[f"{n.id}.1"] for member, n in sent.items()}
    assert of[asha]["status"] == "read"
    assert {"sent", "delivered", "read"} <= of[asha]["reached"].keys()
    assert of[bikram]["status"] == of[chandni]["status"] == "delivered"
    assert len({row["to"] for row in of.values()}) == 3
    assert not any(phone[3:] in repr(deliveries) for phone in (ASHA, BIKRAM, CHANDNI))

    [to_asha] = whole.chat.ledger.of(ASHA)
    whole.chat.inbound_text(ASHA, "रोकें", to=to_asha.id)
    whole.sms.inbound_sms(BIKRAM, "STOP")
    whole.sms.missed_call(CHANDNI)
    await whole.called_back()
    assert await whole.heard(asha) == [("member.opted_out", "stop")]
    assert await whole.heard(bikram) == [("member.opted_out", "stop")]
    assert await whole.heard(chandni) == [("member.opted_out", "missed_call")]
    await whole.bench.dispatch()
    await whole.called_back()
    assert [each.text for each in whole.chat.ledger.of(ASHA)[1:]] == [STOPPED]
    for phone in (BIKRAM, CHANDNI):
        assert [each.text for each in whole.sms.ledger.of(phone)[1:]] == [STOPPED]

    # Whoever has the number now gets nothing, and what is told again changes nothing.
    other = await whole.member(peers, ASHA, "whatsapp")
    before = await whole.deliveries(), [await whole.heard(member) for member in sent]
    assert whole.chat.replay(shuffle=True) > 0
    await whole.called_back()
    await whole.bench.dispatch()
    n = await whole.of(other)
    assert (n.state, n.reason) == (State.SUPPRESSED, "suppressed")
    assert len(whole.chat.ledger.of(ASHA)) == 2
    assert (await whole.deliveries(), [await whole.heard(member) for member in sent]) == before
    confirmed = await whole.bench.database["notifications"].count_documents({"purpose": SERVICE})
    assert confirmed == 3


async def test_an_answer_that_got_lost_is_made_good_by_the_callback(whole: Whole, peers: Peers) -> None:
    """It is not known whether the gateway took it; nothing is sent again, and its callback tells."""
    member = await whole.member(peers, BIKRAM, "sms")
    whole.sms.steer(fault="reset", taken=True, next=1)
    await whole.bench.dispatch()
    waiting = await whole.of(member)
    assert (waiting.state, waiting.held_for) == (State.SENDING, "outcome")
    await whole.called_back()
    n = await whole.of(member)
    assert (n.state, len(whole.sms.ledger)) == (State.SENT, 1)


async def test_who_is_not_on_whatsapp_is_told_of_and_reached_by_sms(whole: Whole, peers: Peers) -> None:
    """The provider tells it at once, or by a callback."""
    members = [await whole.member(peers, phone, "whatsapp") for phone in (ASHA, BIKRAM)]
    for member, phone in zip(members, (ASHA, BIKRAM), strict=True):
        peers.consents(member, "whatsapp", "sms")
        whole.chat.opens_window(phone)
    whole.chat.steer(recipient=ASHA, error=131026, via="answer")
    whole.chat.steer(recipient=BIKRAM, outcome="131026")
    await whole.bench.dispatch()
    await whole.called_back()
    await whole.bench.dispatch()
    for member in members:
        n = await whole.of(member)
        assert (n.state, n.channel, [a.sender for a in n.attempts]) == (
            State.SENT,
            "sms",
            ["whatsapp", "exotel"],
        )
        assert await whole.heard(member) == [("member.unreachable", "")]
