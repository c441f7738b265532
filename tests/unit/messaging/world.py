"""Two services of two processes each, on one in-memory store and log, that move one step at a time.

`a` accepts requests and publishes their events; `b` consumes them, writes an effect for each and publishes a
follow-up event. Every task is parked at its next step (a call over the network, its reply, a pause) until the
test lets it proceed, makes the step fail, or kills its process. Time passes only when the test says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

import pytest
import structlog

from services.shared import loops
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import GroupMemberWaiting
from services.shared.contracts.members import MemberJoined, MemberUpdated
from services.shared.contracts.vocabulary import Gender
from services.shared.database import Document, database
from services.shared.database import leases as lease
from services.shared.errors import PermanentError, TransientError
from services.shared.faults import FaultFamily, classify
from services.shared.loops import Loop
from services.shared.messaging import Message, Origin, Record, TopicSpec, UnitOfWork
from services.shared.messaging.consuming import applier, consumer, sub_batches
from services.shared.messaging.dead_letters import store as dead_letters
from services.shared.messaging.publishing import outbox
from services.shared.runtime import supervisor
from tests.fakes.kafka import Log
from tests.fakes.mongo import client
from tests.fakes.store import Name, Store
from tests.fixtures.ids import id_of
from tests.unit.messaging.process import ACTOR, Actor, Crash, Process

BEGINNING: Final = datetime(2026, 11, 24, tzinfo=UTC)
ORIGIN: Final = Origin("request", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
PROCESSES: Final = ("a1", "a2", "b1", "b2")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers follow the world's time. It never blocks, since some task is always
    ready."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def time(self) -> float:
        return self._world.monotonic()


class World:
    def __init__(self) -> None:
        self._seconds = 0.0
        self._ids = self._turn = 0
        self.store = Store(self.now)
        self.log = Log(self.now)
        self.client = client(self.store, self.step)
        self.bug = self.ever_bug = self.peer_down = self.blown = False
        self.times_blown = self.resets = 0
        self.attempted: dict[str, str] = {}
        """Token of each request -> its subject."""
        self.accepted: set[str] = set()
        self.poison: list[Record] = []
        self.violations: list[str] = []
        self.actors: dict[str, Actor] = {}
        self.processes: dict[str, Process] = {}
        self.log.create(
            [
                TopicSpec(t, n, 1)
                for t, n in ((MemberJoined.topic, 2), (GroupMemberWaiting.topic, 2), ("b.dlq", 1))
            ]
        )
        self._patches = pytest.MonkeyPatch()
        self._patch()
        self._loop = VirtualLoop(self)
        for name in PROCESSES:
            self.start(name)

    def _patch(self) -> None:
        for module in (applier, consumer, loops, supervisor):
            self._patches.setattr(module, "wait_first", self._wait_first)
        self._patches.setattr(lease, "time", SimpleNamespace(monotonic=self.monotonic))
        for module in (outbox, dead_letters, lease):
            self._patches.setattr(module, "new_id", self.new_id)
        self._patches.setattr(consumer, "FETCH_SECONDS", 0)
        self._patches.setattr(applier, "run_together", self._run_together)
        self._patches.setattr(sub_batches, "MIN_EVENTS", 1)
        self._logging = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

    def close(self) -> None:
        for name in PROCESSES:
            self.crash(name)
        self._loop.close()
        structlog.configure(**self._logging)
        self._patches.undo()

    # -- the environment that messaging sees
    # -------------------------------------------------------------------

    def now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def new_id(self) -> str:
        """Ids sort by the clocks of the processes that make them; the clock of a2 is far behind."""
        self._ids += 1
        actor = ACTOR.get(None)
        behind = actor is not None and actor.process.name == "a2"
        return f"{0 if behind else 1:08x}-0000-7000-8000-{self._ids:012x}"

    def database(self, service: str) -> Any:
        return database(self.client, service)

    async def step(self, name: str) -> None:
        actor = ACTOR.get(None)
        if actor is not None:  # the test's own calls are not parked
            await actor.reach(name)

    async def _wait_first(self, *events: asyncio.Event, timeout: float) -> None:
        if not any(event.is_set() for event in events):
            await self.step("pause")

    async def _run_together(self, runs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Make each run an actor, so that the test can delay, fail or release one of them alone."""
        whole = ACTOR.get(None)
        if whole is None or len(runs) == 1:
            await loops.run_together(runs)
            return

        async def act(n: int, run: Coroutine[Any, Any, None]) -> None:
            whole.waits_for.append(self._enter(whole.process, f"{whole.name.partition('.')[2]}.{n}"))
            await run

        try:
            await loops.run_together([act(n, run) for n, run in enumerate(runs)])
        finally:
            whole.waits_for.clear()

    def acted(self, process: Process, role: str, run: Loop) -> Loop:
        async def loop(stop: asyncio.Event) -> None:
            self._enter(process, role)
            await run(stop)

        return loop

    def _enter(self, process: Process, role: str) -> Actor:
        """Make the running task an actor; a loop that its supervisor restarts is the same task."""
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda t: t.exception())  # retrieves a Crash that nothing else will
        name = f"{process.name}.{role}"
        actor = self.actors[name] = Actor(self, process, name, task)
        ACTOR.set(actor)
        return actor

    async def handle(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        """Write an effect per event and a state per subject guarded by its sequence, and stage a follow-up
        event."""
        await self.step("peer")
        if self.peer_down:
            raise TransientError("peer")
        if self.bug and any(isinstance(e.data, MemberUpdated) for e in events):
            raise KeyError("bug")
        db = self.database("b")
        found = db["subjects"].find({"_id": {"$in": [e.subject for e in events]}}, session=work.session)
        states = {row["_id"]: row async for row in found}
        rows = []
        for e in events:
            state = states.setdefault(e.subject, {"_id": e.subject, "sequence": 0, "count": 0})
            newer = e.sequence > state["sequence"]
            state["sequence"] = max(state["sequence"], e.sequence)
            state["count"] += 1
            row = {"event": e.id, "subject": e.subject, "sequence": e.sequence}
            rows.append({**row, "token": e.data.unit, "newer": newer})
            follows = GroupMemberWaiting(member_id=e.subject, unit=e.data.unit, reason="waiting_unit")
            work.stage(follows, state["count"], Origin.of(e))
        for state in states.values():
            await db["subjects"].replace_one({"_id": state["_id"]}, state, upsert=True, session=work.session)
        await db["effects"].insert_many(rows, session=work.session)

    def watch(self, actor: Actor, step: str) -> None:
        """Check invariants that hold at certain steps and leave no trace afterwards."""
        if step == "find outbox" and actor.step != step:
            row = self.rows(actor.process.service, "leases").get("relay", {})
            if row.get("holder") != actor.process.lease._holder or row["expires_at"] < self.now():
                self.violations.append(f"{actor.name} reads the outbox without the lease")
        if step == "fetch" and self.blown and actor.process.born_blown == self.times_blown:
            self.violations.append(f"{actor.name} was started with an open fuse, and consumes")

    # -- actions of a test -----------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        process = self.processes.get(name)
        if process is None or process.dead or process.ended:
            self._run(self._start(name))

    async def _start(self, name: str) -> None:
        self.processes[name] = Process(self, name)

    def crash(self, name: str) -> None:
        self.processes[name].dead = True
        for actor in self.actors.values():
            if actor.process.name == name and actor.parked:
                actor.release(Crash())
        self._run()

    def terminate(self, name: str) -> None:
        self.processes[name].terminate()
        self._run()

    def parked(self, name: str) -> Actor | None:
        """The task of this name, or one of the sub-batches that it waits for: whose turn it is."""
        found = [a for n, a in self.actors.items() if a.parked and (n == name or n.startswith(f"{name}."))]
        return found[self._turn % len(found)] if found else None

    def go(self, name: str, steps: int) -> None:
        for _ in range(steps):
            if actor := self.parked(name):
                self._turn += 1
                actor.release()
                self._run()

    def go_to(self, name: str, step: str, most: int = 40) -> None:
        for _ in range(most):
            actor = self.parked(name)
            if actor is None or actor.step == step:
                return
            self.go(name, 1)

    def fail(self, name: str) -> None:
        actor = self.parked(name)
        if actor and actor.step != "pause":
            actor.release(ConnectionError("down"))
            self._run()

    def everybody(self, steps: int) -> None:
        for _ in range(steps):
            for name in list(self.actors):
                self.go(name, 1)

    def tick(self, seconds: float) -> None:
        self._seconds += seconds
        self._run(least=4)

    def expire(self) -> None:
        """Expire the sessions of dead processes."""
        alive = [p.consumer._consumer for p in self.processes.values() if not p.dead]
        for member in list(self.log.members.get("b", [])):
            if member not in alive:
                self.log.leave(member)

    def expel(self, name: str) -> None:
        """Expire the session of a paused process, which does not notice: a zombie."""
        member = self.processes[name].consumer._consumer
        if member is not None:
            self.log.leave(member)  # type: ignore[arg-type]

    def request(self, name: str, subject: str, kind: type[MemberJoined | MemberUpdated]) -> None:
        process = self.processes[name]
        if not process.dead and not self.parked(f"{name}.request"):
            token = f"T{len(self.attempted)}"
            self.attempted[token] = subject
            event = _event(kind, id_of(subject), token)
            self._run(self._spawn(process, "request", lambda: self._accept(process, event)))

    async def _accept(self, process: Process, event: MemberJoined | MemberUpdated) -> None:
        subjects = self.database("a")["subjects"]

        async def body(work: UnitOfWork) -> None:
            row = await subjects.find_one({"_id": event.subject}, session=work.session)
            sequence = (row["sequence"] if row else 0) + 1
            new = {"_id": event.subject, "sequence": sequence}
            await subjects.replace_one({"_id": event.subject}, new, upsert=True, session=work.session)
            work.stage(event, sequence, ORIGIN)

        await process.outbox.transact(body)
        self.accepted.add(event.unit)

    def replay(self, name: str, letter: str) -> None:
        process = self.processes[name]
        if not process.dead and not self.parked(f"{name}.replay"):
            self._run(
                self._spawn(process, "replay", lambda: process.replayer.replay_one(letter, by="operator"))
            )

    def reset_fuse(self) -> None:
        self.blown = False
        self.resets += 1
        self._run(self.processes["b1"].fuse.reset())

    def publish(self, message: Message) -> None:
        """A foreign producer writes to the topic."""
        self.poison.append(self.log.append(message))

    def rows(self, service: str, collection: str) -> dict[Any, Document]:
        return self.store.rows.get(Name(service, collection), {})

    async def _spawn(self, process: Process, role: str, run: Callable[[], Awaitable[None]]) -> None:
        async def task() -> None:
            self._enter(process, role)
            try:
                await run()
            except (TransientError, PermanentError):
                pass
            except Exception as error:
                if classify(error) is FaultFamily.PERMANENT:
                    self.violations.append(f"{role}: {type(error).__name__}: {error}")

        asyncio.create_task(task())  # noqa: RUF006 (its actor holds it)

    def _run(self, first: Coroutine[Any, Any, Any] | None = None, *, least: int = 1) -> None:
        self._loop.run_until_complete(self._settle(first, least))

    async def _settle(self, first: Coroutine[Any, Any, Any] | None, least: int) -> None:
        """Run until every task is parked or done; timers need more than one turn of the loop."""
        if first is not None:
            await first
        for turn in range(1, 1000):
            await asyncio.sleep(0)
            if turn >= least and all(actor.at_rest for actor in self.actors.values()):
                return
        raise AssertionError("a task neither ends nor reaches a step")


def _event(
    kind: type[MemberJoined | MemberUpdated], subject: str, token: str
) -> MemberJoined | MemberUpdated:
    if kind is MemberJoined:
        return MemberJoined(
            member_id=subject, unit=token, gender=Gender.FEMALE, language="hi", joined_at=BEGINNING
        )
    return MemberUpdated(member_id=subject, unit=token, gender=Gender.FEMALE, language="hi")
