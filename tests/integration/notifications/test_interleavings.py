"""One welcome in the right state, however topics interleave, with repetitions and sends in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.keys import Keys
from services.notifications.core.domain import State
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.vocabulary import Channel
from services.shared.ids import new_id
from tests.fixtures.apps import base_settings
from tests.integration.notifications.conftest import (
    MASTER_KEYS,
    START,
    Bench,
    assigned,
    invite,
    joined,
    left,
    moved,
    removed,
    updated,
)
from tests.integration.notifications.stand_ins import Peers, link_of

Stream = list[Envelope[Event]]
DISPATCH = "dispatch"


@dataclass
class Case:
    """A member's history as one stream for each subject, how they interleave, and how it must end."""

    member: str
    streams: list[Stream]
    channels: tuple[str, ...]
    language: str
    leaves: bool
    own_number: bool
    group: str | None
    links: dict[str, bool]

    @property
    def held_for(self) -> str | None:
        if self.group is None:
            return "no_group"
        return None if self.links[self.group] else "no_invite"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    member, groups = new_id(), [new_id(), new_id()]
    histories = {g: draw(st.lists(st.booleans(), max_size=3)) for g in groups}
    channels = tuple(draw(st.sets(st.sampled_from([c.value for c in Channel]))))
    language, changes, own_number = "hi", [], draw(st.integers(0, 3)) > 0
    for n in range(draw(st.integers(0, 2))):
        language = draw(st.sampled_from(["hi", "en"]))
        change = updated(member, n + 2, language=language, contact_changed=True, own_number=own_number)
        changes.append(change)
    leaves = draw(st.booleans())
    begins = joined(member, channels=channels, own_number=own_number)
    stream = [begins, *changes, moved(member, len(changes) + 2)]
    stream += [left(member, len(stream) + 1)] if leaves else []

    placements: Stream = []
    group: str | None = None
    for target in draw(st.lists(st.sampled_from(groups), max_size=3)):
        if group is not None:
            placements.append(removed(member, group, len(placements) + 1))
        # A group says that it is ready in an assignment only if it was so at some time.
        hint = draw(st.booleans()) and any(histories[target])
        placements.append(assigned(member, target, len(placements) + 1, ready=hint))
        group = target
    if group is not None and draw(st.booleans()):
        placements.append(removed(member, group, len(placements) + 1))
        group = None
    invites = [[invite(g, n + 2, ready=r) for n, r in enumerate(history)] for g, history in histories.items()]
    links = {g: bool(history and history[-1]) for g, history in histories.items()}
    return Case(member, [stream, placements, *invites], channels, language, leaves, own_number, group, links)


@st.composite
def scripts(draw: st.DrawFn) -> tuple[Case, list[list[Envelope[Event]] | str]]:
    """The case with a script: batches to deliver, and turns of the dispatcher in between."""
    case = draw(cases())
    queues = [list(stream) for stream in case.streams if stream]
    order: list[Envelope[Event]] = []
    while queues:
        queue = draw(st.sampled_from(queues))
        order.append(queue.pop(0))
        if draw(st.booleans()):  # a repetition: as the relay makes it, or with an id of its own
            again = draw(st.sampled_from(order))
            order.append(again if draw(st.booleans()) else replace(again, id=new_id()))
        queues = [q for q in queues if q]
    sends = draw(st.booleans())
    script: list[list[Envelope[Event]] | str] = []
    while order:
        size = draw(st.integers(1, len(order)))
        script.append(order[:size])
        order = order[size:]
        if sends and draw(st.booleans()):
            script.append(DISPATCH)
    return case, script


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bench(
    mongo_uri: str, keys: Keys, peers: Peers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    token = Path(tmp_path_factory.mktemp("token")) / "token"
    token.write_text("t")
    database = f"test_{new_id().replace('-', '')[-12:]}"
    made = Bench(
        NotificationsSettings(
            **base_settings(mongo_uri, "127.0.0.1:1", database, keys),
            master_keys=MASTER_KEYS,
            members_url=peers.url,
            groups_url=peers.url,
            service_token_file=token,
        ),
        ManualClock(START),
    )
    await made.service.migrate()
    yield made
    await made.runtime.client.drop_database(database)
    made.runtime.client.close()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(scripts())
async def test_one_welcome_in_the_right_state(
    bench: Bench, peers: Peers, script: tuple[Case, list[list[Envelope[Event]] | str]]
) -> None:
    case, steps = script
    peers.add_member(case.member, unit="BR-GAYA")
    if case.own_number:
        peers.consents(case.member, *case.channels)
    else:
        peers.add_member(case.member, unit="BR-GAYA", phone="", email=None, consents=[], own_number=False)
    for group, has_link in case.links.items():
        peers.add_group(group, link=link_of(group) if has_link else None, unit="BR")
    for step in steps:
        if isinstance(step, str):
            await bench.dispatch()
        else:
            await bench.deliver(*step)
    await bench.passes(timedelta(minutes=1))
    await bench.dispatch()

    await _check_end(bench, case, sent_early=DISPATCH in steps)
    await _check_history(bench, case)


async def _check_end(bench: Bench, case: Case, *, sent_early: bool) -> None:
    n = await bench.welcome(case.member)
    message = await bench.recorded(n.id)
    assert (message is not None) == (n.state is State.SENT)
    if n.state is State.SENT and sent_early:  # it may have gone before the member left or was moved
        assert case.channels
        return
    if not case.own_number:
        assert message is None
        assert n.state is State.SUPPRESSED
        assert n.reason in ("no_number", "left")
    elif not case.channels:
        assert (n.state, n.reason) == (State.SUPPRESSED, "no_consent")
    elif case.leaves:
        assert (n.state, n.reason) == (State.SUPPRESSED, "left")
    elif case.held_for is not None:
        assert (n.state, n.held_for) == (State.QUEUED, case.held_for)
    else:
        assert n.state is State.SENT
        assert message is not None
        assert case.group is not None
        assert link_of(case.group) in message["text"]
        assert (message["language"], n.unit) == (case.language, "BR-GAYA")
        assert n.channel == next(c.value for c in Channel if c in case.channels)


async def _check_history(bench: Bench, case: Case) -> None:
    n = await bench.welcome(case.member)
    events = await bench.events(n.id)
    assert [e.sequence for e in events] == list(range(1, n.sequence + 1))
    kinds = [e.type for e in events]
    at_once = n.reason == "no_consent" or not case.own_number
    if n.state is State.QUEUED or (n.state is State.SUPPRESSED and at_once):
        assert kinds == [f"notification.{n.state.value}"]
    else:
        assert kinds == ["notification.queued", f"notification.{n.state.value}"]
