"""Features: each feature folder of a service exports one `Feature`, and `Service` is composed of a list of
them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter

from services.shared.database import Migration
from services.shared.jobs import JobKind
from services.shared.loops import Loop
from services.shared.messaging import Subscriptions
from services.shared.runtime.repairs_api import Learnt
from services.shared.runtime.slow_gauges import Reading
from services.shared.runtime.snapshots import Source

Hook = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Feature:
    """One capability of a service, from its routes to its collections. All fields are optional.

    `body_limits` override the usual limit, in bytes, for exact paths. If several features handle one event
    type, their handlers run in the order of the list, in one transaction. `ops repair` forgets what is
    `learnt`, and has the `snapshots` of the services that own it published. `on_stop` hooks run after the
    last request and before the background loops stop, `on_close` hooks after the loops.
    """

    routers: Sequence[APIRouter] = ()
    body_limits: Mapping[str, int] = field(default_factory=dict)
    subscriptions: Subscriptions = field(default_factory=dict)
    loops: Mapping[str, Loop] = field(default_factory=dict)
    jobs: Sequence[JobKind] = ()
    slow_gauges: Sequence[Reading] = ()
    migrations: Sequence[Migration] = ()
    snapshots: Sequence[Source] = ()
    learnt: Sequence[Learnt] = ()
    on_stop: Sequence[Hook] = ()
    on_close: Sequence[Hook] = ()
