"""Collects all facts concurrently; facts that cannot be collected are `Unseen`, with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.shared.clock import Clock
from services.shared.errors import TransientError
from services.shared.http.keys import KeysUnavailable, key_source
from services.shared.messaging import describe_topics
from services.shared.operations.doctor import over_http, over_tls, stores
from services.shared.operations.doctor.access import Access
from services.shared.operations.doctor.expected import Expected
from services.shared.operations.doctor.facts import Certificate, Log, Monitoring, Process, Store
from services.shared.operations.doctor.findings import Seen, Unseen, Verdict

KAFKA_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Facts:
    """All collected facts. `keys`: the number of keys in the key set that can verify a token."""

    processes: Seen[Sequence[Process]]
    log: Seen[Log]
    store: Seen[Store]
    keys: Seen[int]
    certificates: Seen[Sequence[Certificate]]
    watch: Seen[Monitoring]
    alertmanager: Seen[str]
    """Why it is not ready; empty when it is."""


async def look(access: Access, expected: Expected, clock: Clock) -> Facts:
    async with over_http.client() as http, asyncio.TaskGroup() as looks:
        processes = looks.create_task(over_http.processes(http, access, clock))
        log = looks.create_task(_log(access, expected))
        store = looks.create_task(stores.look(access, expected, clock))
        keys = looks.create_task(_keys(access.jwks))
        certificates = looks.create_task(over_tls.certificates(access))
        watch = looks.create_task(over_http.watch(http, access.prometheus))
        alertmanager = looks.create_task(over_http.alertmanager(http, access.alertmanager))
    return Facts(
        processes.result(),
        log.result(),
        store.result(),
        keys.result(),
        certificates.result(),
        watch.result(),
        alertmanager.result(),
    )


async def _log(access: Access, expected: Expected) -> Seen[Log]:
    if not access.kafka:
        return Unseen(
            "no address of Kafka", "give --kafka HOST:PORT or SANGATHAN_KAFKA_BOOTSTRAP", Verdict.SKIPPED
        )
    names = {topic.name for topic in expected.topics}
    try:
        async with asyncio.timeout(KAFKA_SECONDS):
            brokers, topics = await describe_topics(
                access.kafka, names, access.kafka_prefix, access.kafka_security
            )
    except PermissionError as error:
        return Unseen(f"Kafka: {error}", "grant this user Describe and DescribeConfigs on the topics")
    except (TransientError, TimeoutError) as error:
        why = f"Kafka at {access.kafka} does not answer: {error or type(error).__name__}"
        return Unseen(why, "start the brokers, or fix SANGATHAN_KAFKA_*", Verdict.WRONG)
    return Log(brokers, {topic.spec.name: topic for topic in topics})


async def _keys(jwks: str) -> Seen[int]:
    if not jwks:
        return Unseen(
            "no address of the key set",
            "give --jwks or SANGATHAN_JWKS, with the value that the services use",
            Verdict.SKIPPED,
        )
    source = key_source(jwks)
    try:
        return len(await source.fetch())
    except KeysUnavailable as error:
        cure = "fix the key set: until then, the services accept no new keys"
        return Unseen(f"{jwks}: {error}", cure, Verdict.WRONG)
    finally:
        await source.aclose()
