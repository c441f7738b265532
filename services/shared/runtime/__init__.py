"""Running a service: a `Runtime` holds its connections, a `Feature` is one capability, a `Service` composes
both."""

from __future__ import annotations

from services.shared.runtime.composition import Service
from services.shared.runtime.feature import Feature
from services.shared.runtime.jobs_api import JobOut, accepted
from services.shared.runtime.lifecycle import serve
from services.shared.runtime.repairs_api import Learnt
from services.shared.runtime.runtime import Runtime, broker_of
from services.shared.runtime.slow_gauges import vault_key
from services.shared.runtime.snapshots import Source
from services.shared.runtime.successions import Successions, successions

__all__ = [
    "Feature",
    "JobOut",
    "Learnt",
    "Runtime",
    "Service",
    "Source",
    "Successions",
    "accepted",
    "broker_of",
    "serve",
    "successions",
    "vault_key",
]
