"""Events: frozen models with a type, a topic and a subject; and the envelope that carries an event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from services.shared.contracts.vocabulary import Past


class Event(BaseModel):
    """A fact in the past tense.

    Contracts change by addition only: consumers ignore fields they do not know. A breaking change is a new
    type with the suffix `.v2`, published beside the old type. A subclass declares its type, topic and
    subject:

        class MemberLeft(Event, type="member.left", topic=TOPIC, subject="member_id"): ...
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str] = ""
    topic: ClassVar[str] = ""
    source: ClassVar[str] = ""
    subject_field: ClassVar[str] = ""
    past_fields: ClassVar[tuple[str, ...]] = ()
    """The fields that say when something happened."""

    def __init_subclass__(cls, *, type: str = "", topic: str = "", subject: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.event_type = type
        cls.topic = topic
        cls.source = "/" + topic.rpartition(".")[2]
        cls.subject_field = subject

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.past_fields = tuple(
            name
            for name, field in cls.model_fields.items()
            if any(isinstance(mark, Past) for mark in field.metadata)
        )

    @property
    def subject(self) -> str:
        """The aggregate's id. It is also the key of the Kafka record, so that all events of an aggregate are
        in one partition."""
        return str(getattr(self, self.subject_field))


E_co = TypeVar("E_co", bound=Event, covariant=True)
State = TypeVar("State")


class Numbered(NamedTuple):
    """An event with the sequence that its subject has after it."""

    event: Event
    sequence: int


class Step(NamedTuple, Generic[State]):
    """The result of a domain function: the new state, and the events that describe the change (none if
    nothing changed)."""

    state: State
    events: tuple[Numbered, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope(Generic[E_co]):
    """An event with its CloudEvents attributes.

    `sequence` is the subject's version within the topic, from 1 and without gaps. `id` is the inbox key. A
    snapshot is not a change: it carries the sequence that its subject has reached.
    """

    id: str
    sequence: int
    time: datetime
    correlation_id: str
    traceparent: str
    data: E_co
    causation_id: str | None = None

    @property
    def subject(self) -> str:
        return self.data.subject

    @property
    def type(self) -> str:
        return self.data.event_type
