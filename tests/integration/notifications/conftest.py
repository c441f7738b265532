"""The service composed as in production on a real MongoDB; tests drive its loops turn by turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
import stamina

from infra.local.keys import Keys
from infra.local.ports import Ports
from services.notifications.app import chosen_sender, compose
from services.notifications.core.channel import Gateway, Gateways, Sender
from services.notifications.core.core import Core
from services.notifications.core.domain import WELCOME, Notification
from services.notifications.core.store import notification_of
from services.notifications.sending.dispatcher import Dispatcher
from services.notifications.sending.store import QueueStore
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupInviteChanged, GroupMemberAssigned, GroupMemberRemoved
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from services.shared.messaging import Message, Partition, Record, decode, encode
from services.shared.messaging.publishing.outbox import message_of
from services.shared.runtime import Runtime
from tests.fixtures.apps import TRACEPARENT, base_settings
from tests.fixtures.databases import a_database, release, shape_of
from tests.integration.notifications.callbacks import APP_SECRET, SMS_SECRET, FakeGateway, Hooks
from tests.integration.notifications.stand_ins import Peers, serving

START = datetime(2025, 6, 1, 9, tzinfo=UTC)
MASTER_KEYS = {"test": "A" * 128}
"""96 zero bytes."""


class Bench:
    """One replica. `deliver` applies records as its consumer does; `dispatch` is a turn of its dispatcher.

    Its own clock is wrong by more than a year: what is due is due by MongoDB's. `passes` lets time pass.
    """

    def __init__(
        self,
        settings: NotificationsSettings,
        clock: ManualClock,
        sender: Sender | Gateways | None = None,
        sources: Mapping[str, Gateway] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.runtime = Runtime(settings, clock=clock)
        self.core = Core(self.runtime, settings)
        self.sender = sender or chosen_sender(self.core)
        self.service = compose(self.core, self.sender, sources)
        self.dispatcher = Dispatcher(self.core, self.sender)
        self.database = self.runtime.database
        self.queue = QueueStore(self.database)
        self._offset = 0

    async def deliver(self, *events: Envelope[Event]) -> None:
        assert self.service.consumer is not None
        await self.runtime.server_clock.read()
        await self.service.consumer.applier.apply([self._record(encode(event)) for event in events])

    async def dispatch(self) -> int:
        await self.runtime.server_clock.read()
        return await self.dispatcher.dispatch()

    async def passes(self, time: timedelta) -> None:
        """Everything that is stored about notifications is so much older."""
        ms = time / timedelta(milliseconds=1)
        older = {
            name: {"$ifNull": [{"$subtract": [f"${name}", ms]}, "$$REMOVE"]}
            for name in ("created_at", "due_at", "waits_until")
        }
        await self.database["notifications"].update_many({}, [{"$set": older}])

    async def at_any_hour(self) -> None:
        """No quiet hours: reminders go whenever the tests run."""
        policies = replace(await self.core.policies.current(), version=1, quiet_hours=())
        await self.core.policies.add(policies, self.clock.now(), "test")

    async def welcome(self, member_id: str) -> Notification:
        """The member's only notification."""
        rows = await self.database["notifications"].find({"member_id": member_id}).to_list(None)
        assert [row["purpose"] for row in rows] == [WELCOME]
        return notification_of(rows[0])

    async def events(self, subject: str) -> list[Envelope[Event]]:
        """The events that were staged about it, in the order of sequence."""
        rows = await self.runtime.outbox.rows.find({"subject": subject}).sort("sequence", 1).to_list(None)
        return [decode(self._record(message_of(row))) for row in rows]

    async def recorded(self, notification_id: str) -> dict[str, Any] | None:
        """The message that the recording sender kept, opened."""
        row = await self.database["recorded_messages"].find_one({"_id": notification_id})
        if row is None:
            return None
        opened = await self.core.vault.open([(notification_id, row["sealed"])])
        return {**row, **opened[0]}

    def _record(self, message: Message) -> Record:
        self._offset += 1
        place = Partition(message.topic, 0)
        return Record(place, self._offset, message.key, message.value, message.headers, 0)


def envelope(event: Event, sequence: int) -> Envelope[Event]:
    return Envelope(new_id(), sequence, START, "request-1", TRACEPARENT, event)


def joined(
    member_id: str,
    sequence: int = 1,
    *,
    channels: tuple[str, ...] = ("whatsapp",),
    language: str = "hi",
    announced: bool = True,
    own_number: bool = True,
) -> Envelope[Event]:
    event = MemberJoined(
        member_id=member_id,
        unit="BR-SARAN",
        gender=Gender.FEMALE,
        language=language,
        joined_at=START,
        channels=channels,
        announced=announced,
        own_number=own_number,
    )
    return envelope(event, sequence)


def updated(
    member_id: str,
    sequence: int,
    *,
    language: str = "hi",
    contact_changed: bool = False,
    own_number: bool = True,
) -> Envelope[Event]:
    event = MemberUpdated(
        member_id=member_id,
        unit="BR-SARAN",
        gender=Gender.FEMALE,
        language=language,
        contact_changed=contact_changed,
        own_number=own_number,
    )
    return envelope(event, sequence)


def moved(member_id: str, sequence: int, unit: str = "BR-GAYA") -> Envelope[Event]:
    return envelope(MemberMoved(member_id=member_id, from_unit="BR-SARAN", unit=unit), sequence)


def consented(member_id: str, sequence: int, *channels: str) -> Envelope[Event]:
    """A change after which these are the channels for the welcome."""
    change = {"purpose": "welcome", "channel": "sms", "state": "given" if channels else "withdrawn"}
    event = MemberConsentChanged(member_id=member_id, unit="BR-SARAN", **change, channels=channels)
    return envelope(event, sequence)


def left(member_id: str, sequence: int) -> Envelope[Event]:
    return envelope(MemberLeft(member_id=member_id, unit="BR-SARAN"), sequence)


def merged(member_id: str, sequence: int, into: str) -> Envelope[Event]:
    return envelope(MemberMerged(**_state(member_id), into=into), sequence)


def unmerged(member_id: str, sequence: int, into: str) -> Envelope[Event]:
    return envelope(MemberUnmerged(**_state(member_id), into=into, channels=("whatsapp",)), sequence)


def _state(member_id: str) -> dict[str, Any]:
    of = {"unit": "BR-SARAN", "gender": Gender.FEMALE, "language": "hi", "joined_at": START}
    return {"member_id": member_id, **of, "announced": False}


def assigned(member_id: str, group_id: str, sequence: int = 1, *, ready: bool = False) -> Envelope[Event]:
    event = GroupMemberAssigned(
        member_id=member_id,
        group_id=group_id,
        unit="BR-SARAN",
        kind="general",
        ordinal=1,
        invite_ready=ready,
    )
    return envelope(event, sequence)


def removed(member_id: str, group_id: str, sequence: int) -> Envelope[Event]:
    event = GroupMemberRemoved(
        member_id=member_id, group_id=group_id, unit="BR-SARAN", kind="general", ordinal=1, reason="moved"
    )
    return envelope(event, sequence)


def invite(group_id: str, sequence: int, *, ready: bool = True) -> Envelope[Event]:
    return envelope(GroupInviteChanged(group_id=group_id, unit="BR-SARAN", invite_ready=ready), sequence)


@pytest.fixture(scope="module", autouse=True)
def _quick_retries() -> Iterator[None]:
    """Tries at the peers without the pauses between them."""
    stamina.set_testing(True, attempts=2)
    yield
    stamina.set_testing(False)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def peers(ports: Ports) -> AsyncIterator[Peers]:
    async with serving(ports.take()) as served:
        yield served


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "service_token"
    file.write_text("the-service-token\n")
    return file


@pytest.fixture
def settings(
    request: pytest.FixtureRequest,
    mongo_uri: str,
    database_name: str,
    keys: Keys,
    peers: Peers,
    token_file: Path,
) -> NotificationsSettings:
    peers.calm()
    name = (
        a_database(mongo_uri, "notifications")
        if {"bench", "hooks"} & set(request.fixturenames)
        else database_name
    )
    return NotificationsSettings(
        **base_settings(mongo_uri, "127.0.0.1:1", name, keys),
        master_keys=MASTER_KEYS,
        members_url=peers.url,
        groups_url=peers.url,
        service_token_file=token_file,
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest_asyncio.fixture(loop_scope="session")
async def bench(settings: NotificationsSettings, clock: ManualClock) -> AsyncIterator[Bench]:
    made = Bench(settings, clock)
    await made.service.migrate()
    shape = await shape_of(made.runtime.client, settings.database)
    yield made
    await release(settings, shape)
    made.runtime.client.close()


class Replica(Protocol):
    """Makes another process of the service, with a sender and maybe a clock of its own."""

    def __call__(self, sender: Sender, clock: ManualClock | None = None) -> Bench: ...


@pytest.fixture
def replica(bench: Bench) -> Iterator[Replica]:
    made: list[Bench] = []

    def make(sender: Sender, clock: ManualClock | None = None) -> Bench:
        made.append(Bench(bench.settings, clock or bench.clock, sender))
        return made[-1]

    yield make
    for one in made:
        one.runtime.client.close()


def hooks_settings(settings: NotificationsSettings) -> NotificationsSettings:
    return settings.model_copy(
        update={
            "whatsapp_app_secret": APP_SECRET,
            "whatsapp_verify_token": "a_verify_token_of_ours",
            "sms_callback_secrets": {"exotel": SMS_SECRET, "unread": SMS_SECRET},
            "stop_numbers": ("08047000001",),
            "join_numbers": ("+918047000002",),
        }
    )


def gateways() -> dict[str, FakeGateway]:
    return {"whatsapp": FakeGateway("cloud_api"), "sms/exotel": FakeGateway("exotel")}


@pytest_asyncio.fixture(loop_scope="session")
async def hooks(settings: NotificationsSettings, keys: Keys) -> AsyncIterator[Hooks]:
    """A process that receives callbacks, of a provider made up for tests."""
    made = gateways()
    clock = ManualClock(datetime.now(UTC))  # of callers' tokens
    bench = Bench(hooks_settings(settings), clock, sources=made)
    await bench.service.migrate()
    shape = await shape_of(bench.runtime.client, settings.database)
    hooks = Hooks(bench, made, keys)
    yield hooks
    await hooks.http.aclose()
    await release(settings, shape)
    bench.runtime.client.close()


@pytest_asyncio.fixture(loop_scope="session")
async def other_hooks(hooks: Hooks) -> AsyncIterator[Hooks]:
    """Another process of the same."""
    made = gateways()
    bench = Bench(hooks.bench.settings, hooks.bench.clock, sources=made)
    await bench.runtime.server_clock.read()
    other = Hooks(bench, made)
    yield other
    await other.http.aclose()
    bench.runtime.client.close()
