"""The link in an e-mail: a look changes nothing, one click stops, and nobody else's link does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest_asyncio

from services.notifications.core.channel import Gateways, Message
from services.notifications.core.domain import OutcomeClass, SendOutcome, State
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from tests.integration.notifications.callbacks import FakeGateway
from tests.integration.notifications.conftest import Bench, assigned, joined
from tests.integration.notifications.stand_ins import Peers


class Mailer(FakeGateway):
    """Takes everything, and keeps it."""

    def __init__(self) -> None:
        super().__init__("smtp")
        self.taken: list[Message] = []

    async def send(self, messages: object) -> list[SendOutcome]:
        assert isinstance(messages, list)
        self.taken += messages
        return [SendOutcome(OutcomeClass.SENT) for _ in messages]


@pytest_asyncio.fixture(loop_scope="session")
async def post(
    bench: Bench, settings: NotificationsSettings, clock: ManualClock
) -> AsyncIterator[tuple[Bench, Mailer, httpx2.AsyncClient]]:
    mailer = Mailer()
    wanted = settings.model_copy(update={"public_url": "http://test"})
    made = Bench(wanted, clock, Gateways({"email": mailer}))
    transport = httpx2.ASGITransport(app=made.service.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        yield made, mailer, http
    made.runtime.client.close()


async def test_one_click_stops_e_mails_and_a_look_does_not(
    post: tuple[Bench, Mailer, httpx2.AsyncClient], peers: Peers
) -> None:
    bench, mailer, http = post
    member, group = peers.add_member(), peers.add_group()
    peers.consents(member, "email")
    await bench.deliver(joined(member, channels=("email",)), assigned(member, group, ready=True))
    await bench.dispatch()
    [message] = mailer.taken
    link = message.unsubscribe
    assert link is not None
    assert link.startswith("http://test/unsubscribe/")
    assert "@" not in link

    page = await http.get(link)
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert '<form method="post">' in page.text
    assert await bench.database["suppressions"].count_documents({}) == 0

    one_click = {"content-type": "application/x-www-form-urlencoded"}
    for _ in range(2):
        done = await http.post(link, content=b"List-Unsubscribe=One-Click", headers=one_click)
        assert done.status_code == 200, done.text
    [entry] = await bench.database["suppressions"].find({}).to_list(None)
    assert (entry["channel"], entry["via"], entry["member_id"]) == ("email", "unsubscribe", member)
    assert [e.type for e in await bench.events(member)] == ["member.opted_out"]
    rows = await bench.database["notifications"].find({"member_id": member}).to_list(None)
    assert [row["purpose"] for row in rows] == ["welcome"], "no e-mail confirms that there are no more"

    twin, other = peers.add_member(), peers.add_group()
    peers.consents(twin, "email")
    await bench.deliver(joined(twin, channels=("email",)), assigned(twin, other, ready=True))
    await bench.dispatch()
    assert (await bench.welcome(twin)).state is State.SUPPRESSED

    for forged in (link[:-1] + ("A" if link[-1] != "A" else "B"), link + "x", "http://test/unsubscribe/x"):
        assert (await http.get(forged)).status_code == 404
        assert (await http.post(forged)).status_code == 404
