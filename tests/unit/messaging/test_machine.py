"""Messaging under a state machine that interleaves, delays, fails and kills its processes at any step."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from services.shared.contracts.members import MemberJoined, MemberUpdated
from services.shared.messaging import Message
from services.shared.messaging.codec import REQUIRED_HEADERS
from tests.unit.messaging.process import RUN_LENGTH
from tests.unit.messaging.verdict import always, finish
from tests.unit.messaging.world import PROCESSES, World

PROFILE = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""The same examples on every machine. To minimise a counterexample, add `Phase.shrink`."""

REQUEST = ("update subjects", "insert outbox", "commit", "commit done")
RELAY = (
    "update leases done",
    "find outbox",
    "publish",
    "publish half",
    "publish done",
    "delete outbox",
    "delete outbox done",
)
CONSUMER = (
    "fetch",
    "find inbox",
    "peer",
    "insert effects",
    "insert inbox",
    "insert dead_letters",
    "insert outbox",
    "commit",
    "commit done",
    "commit offsets",
    "commit offsets done",
    "pause",
)
REPLAY = ("find_one dead_letters", "delete inbox", "commit", "commit done")
ACTORS = (
    "a1.relay",
    "a2.relay",
    "a1.request",
    "a2.request",
    "b1.consumer",
    "b2.consumer",
    "b1.relay",
    "b2.relay",
)
SUBJECTS = "xvz"
"""The first is in another sub-batch than the others."""
KINDS = st.sampled_from([MemberJoined, MemberUpdated])
OUTCOMES = st.sampled_from(["stay", "fail", "crash", "restart", "expel"])


class MessagingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize()
    def warm(self) -> None:
        self.world.everybody(3)

    @rule(name=st.sampled_from(["a1", "a2"]), subject=st.sampled_from(SUBJECTS), kind=KINDS)
    def request(self, name: str, subject: str, kind: type[MemberJoined | MemberUpdated]) -> None:
        self.world.request(name, subject, kind)

    @rule(subject=st.sampled_from(SUBJECTS[:2]), kinds=st.lists(KINDS, min_size=2, max_size=4))
    def requests(self, subject: str, kinds: list[type[MemberJoined | MemberUpdated]]) -> None:
        """One after the other, each answered if nothing prevents it."""
        for i, kind in enumerate(kinds):
            name = ("a1", "a2")[i % 2]
            self.world.request(name, subject, kind)
            self.world.go(f"{name}.request", 12)

    @rule(count=st.integers(2, 6))
    def newcomers(self, count: int) -> None:
        """Subjects with one event each, all published before they are fetched if nothing prevents it: fills
        sub-batches."""
        for _ in range(count):
            self.world.request("a1", f"n{len(self.world.attempted)}", MemberJoined)
            self.world.go("a1.request", 12)
        self.world.go("a1.relay", 40)

    @rule(actor=st.sampled_from(ACTORS), steps=st.sampled_from([1, 3, 12, 30]))
    def go(self, actor: str, steps: int) -> None:
        self.world.go(actor, steps)

    @rule(steps=st.sampled_from([1, 5, 20, 40]))
    def everybody(self, steps: int) -> None:
        self.world.everybody(steps)

    @rule(name=st.sampled_from(["a1", "a2"]), step=st.sampled_from(REQUEST), then=OUTCOMES)
    def stop_request(self, name: str, step: str, then: str) -> None:
        self.world.request(name, "x", MemberJoined)
        self.stop_at(f"{name}.request", step, then)

    @rule(name=st.sampled_from(PROCESSES), step=st.sampled_from(RELAY), then=OUTCOMES)
    def stop_relay(self, name: str, step: str, then: str) -> None:
        self.stop_at(f"{name}.relay", step, then)

    @rule(name=st.sampled_from(["b1", "b2"]), step=st.sampled_from(CONSUMER), then=OUTCOMES)
    def stop_consumer(self, name: str, step: str, then: str) -> None:
        self.stop_at(f"{name}.consumer", step, then)

    def stop_at(self, actor: str, step: str, then: str) -> None:
        """Bring a task to a step if possible; then fail the step, kill the process, or leave the task
        there."""
        name = actor.partition(".")[0]
        self.world.go_to(actor, step)
        if then == "fail":
            self.world.fail(actor)
        if then in {"crash", "restart"}:
            self.world.crash(name)
        if then == "restart":
            self.world.start(name)
        if then == "expel" and name.startswith("b"):
            self.world.expel(name)

    @rule(name=st.sampled_from(PROCESSES))
    def start(self, name: str) -> None:
        self.world.start(name)

    @rule(name=st.sampled_from(PROCESSES))
    def terminate(self, name: str) -> None:
        self.world.terminate(name)

    @rule(seconds=st.sampled_from([0.5, 2, 6, 20]))
    def tick(self, seconds: float) -> None:
        self.world.tick(seconds)
        if seconds > 10:
            self.world.expire()

    @rule(name=st.sampled_from(["b1", "b2"]))
    def rebalance(self, name: str) -> None:
        self.world.expire()
        self.world.expel(name)

    @rule(
        kind=st.sampled_from(["bad json", "unknown type", "key mismatch"]),
        copies=st.sampled_from([1, 1, 5]),
        name=st.sampled_from(["b1", "b2"]),
        then=OUTCOMES,
    )
    def poison(self, kind: str, copies: int, name: str, then: str) -> None:
        for _ in range(copies):
            self.world.publish(_poison(self.world, kind))
        self.stop_at(f"{name}.consumer", "insert dead_letters", then)

    @rule(broken=st.booleans(), reset=st.booleans())
    def deploy(self, broken: bool, reset: bool) -> None:
        """Deploy a handler with or without a bug; an operator may also reset the fuse."""
        self.world.bug = broken
        self.world.ever_bug |= broken
        if reset:
            self.world.reset_fuse()

    @rule(name=st.sampled_from(["b1", "b2"]), then=st.sampled_from(["restart", "mend"]))
    def bad_deploy(self, name: str, then: str) -> None:
        """A handler with a bug meets events in a row that open the fuse, if nothing prevents it. An operator
        restarts the process, in vain, or mends the handler and resets the fuse."""
        self.world.bug = self.world.ever_bug = True
        for _ in range(RUN_LENGTH + 2):  # the last two must not be skipped
            self.world.request("a1", "x", MemberUpdated)
            self.world.go("a1.request", 12)
        self.world.go("a1.relay", 40)
        self.world.go(f"{name}.consumer", 80)
        if then == "restart":
            self.world.crash(name)
            self.world.start(name)
        else:
            self.world.bug = False
            self.world.reset_fuse()
            self.world.go(f"{name}.consumer", 40)

    @rule(down=st.booleans())
    def peer(self, down: bool) -> None:
        self.world.peer_down = down

    @rule(name=st.sampled_from(["b1", "b2"]), step=st.sampled_from(REPLAY), then=OUTCOMES)
    def replay(self, name: str, step: str, then: str) -> None:
        letters = [
            id_ for id_, row in self.world.rows("b", "dead_letters").items() if row["value"] is not None
        ]
        if letters:
            self.world.replay(name, letters[0])
            self.stop_at(f"{name}.replay", step, then)

    @invariant()
    def always(self) -> None:
        always(self.world)

    def teardown(self) -> None:
        try:
            finish(self.world)
        finally:
            self.world.close()


def _poison(world: World, kind: str) -> Message:
    """A bad record with the id of a good event, if one exists yet."""
    records = world.log.read(MemberJoined.topic)
    good = [r for r in records if r not in world.poison]
    headers = dict(good[-1].headers) if good else dict.fromkeys(REQUIRED_HEADERS, b"1")
    headers |= (
        {"ce_type": b"member.sang", "ce_source": b"/groups"}
        if kind == "unknown type"
        else {"ce_type": b"member.joined"}
    )
    value = b"{" if kind == "bad json" or not good else good[-1].value or b""
    key = b"mallory" if kind == "key mismatch" or not good else good[-1].key or b""
    return Message(MemberJoined.topic, key, value, tuple(headers.items()))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("examples", [40, pytest.param(PROFILE.max_examples, marks=pytest.mark.heavy)])
def test_no_interleaving_and_no_crash_loses_doubles_or_reorders_an_effect(examples: int) -> None:
    run_state_machine_as_test(MessagingMachine, settings=settings(PROFILE, max_examples=examples))
