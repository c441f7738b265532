"""One suite for every sender, for what the dispatcher relies on; and what each sender does besides."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from services.notifications.channels.console.sender import ConsoleSender
from services.notifications.channels.recording.sender import RecordingSender
from services.notifications.core.channel import Message, Sender
from services.notifications.core.domain import OutcomeClass
from services.shared.clock import ManualClock
from services.shared.encryption import Vault
from services.shared.ids import new_id
from tests.integration.notifications.conftest import Bench

PHONE = "+919876543210"


@dataclass
class Subject:
    """A sender and how to see what it has left behind, as bytes."""

    sender: Sender
    stream: io.StringIO = field(default_factory=io.StringIO)
    bench: Bench | None = None

    async def traces(self) -> bytes:
        if self.bench is None:
            return self.stream.getvalue().encode()
        rows = await self.bench.database["recorded_messages"].find({}).to_list(None)
        return b"\n".join(str(row).encode() for row in rows)


@pytest_asyncio.fixture(params=["recording", "console"], loop_scope="session")
async def subject(request: pytest.FixtureRequest, bench: Bench, clock: ManualClock) -> AsyncIterator[Subject]:
    if request.param == "console":
        stream = io.StringIO()
        yield Subject(ConsoleSender(stream), stream)
        return
    vault = Vault(bench.runtime.client, bench.database, bench.settings.master_keys)
    yield Subject(RecordingSender(bench.database, vault, clock), bench=bench)
    await vault.close()


def message(text: str = "नमस्ते", address: str = PHONE) -> Message:
    return Message(new_id(), new_id(), "whatsapp", "hi", "BR-SARAN", address, text)


async def test_gives_one_outcome_for_each_message_in_order(subject: Subject):
    outcomes = await subject.sender.send([message() for _ in range(3)])
    assert [(o.kind, o.error_class) for o in outcomes] == [(OutcomeClass.SENT, None)] * 3


async def test_takes_an_empty_batch(subject: Subject):
    assert list(await subject.sender.send([])) == []


async def test_takes_a_message_again_after_a_crash_hid_the_outcome(subject: Subject):
    one, other = message(), message()
    await subject.sender.send([one])
    outcomes = await subject.sender.send([one, other])
    assert [o.kind for o in outcomes] == [OutcomeClass.SENT] * 2


async def test_leaves_a_trace_of_each_message_by_its_id(subject: Subject):
    messages = [message(), message()]
    await subject.sender.send(messages)
    traces = await subject.traces()
    assert all(m.id.encode() in traces for m in messages)


async def test_shows_nobody_the_address(subject: Subject):
    await subject.sender.send([message(), message(address="asha@example.org")])
    traces = await subject.traces()
    assert b"9876543210" not in traces
    assert b"asha@" not in traces


async def test_has_the_name_that_the_settings_know(subject: Subject):
    assert subject.sender.name in ("recording", "console")


async def test_recording_keeps_the_first_of_a_repeat_and_seals_the_text(bench: Bench, clock: ManualClock):
    vault = Vault(bench.runtime.client, bench.database, bench.settings.master_keys)
    sender = RecordingSender(bench.database, vault, clock)
    first = message("first")
    again = Message(first.id, first.member_id, "sms", "en", "BR-SARAN", PHONE, "again")
    await sender.send([first])
    await sender.send([again, again])
    await vault.close()
    row = await bench.recorded(first.id)
    assert row is not None
    assert (row["text"], row["channel"]) == ("first", "whatsapp")
    assert b"first" not in row["sealed"]
    assert await bench.database["recorded_messages"].count_documents({}) == 1


async def test_console_shows_the_text_and_whom_it_would_reach():
    stream = io.StringIO()
    await ConsoleSender(stream).send([message("नमस्ते आशा")])
    assert "नमस्ते आशा" in stream.getvalue()
    assert "whatsapp to +91********10" in stream.getvalue()
