"""Administration of topics through aiokafka's admin client."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from services.shared.config.kafka_security import UNSECURED, Security
from services.shared.errors import TransientError
from services.shared.messaging.broker import TopicSpec, TopicState

REQUEST_MS = 15_000


async def create_topics(bootstrap: str, topics: Sequence[TopicSpec], security: Security = UNSECURED) -> None:
    """Create the missing topics; existing topics are not changed.

    Raises: `TransientError` when the broker cannot be reached or refuses.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **security.options())
    try:
        await admin.start()
        response = await admin.create_topics(
            [NewTopic(t.name, t.partitions, t.replication, topic_configs=dict(t.config)) for t in topics]
        )
        for name, code, *_ in response.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise TransientError(f"topic {name}: {for_code(code).__name__}")
    except (KafkaError, OSError) as error:
        raise TransientError(f"broker unreachable: {type(error).__name__}") from error
    finally:
        await admin.close()


async def describe_topics(
    bootstrap: str, names: Collection[str], prefix: str = "", security: Security = UNSECURED
) -> tuple[int, list[TopicState]]:
    """The number of brokers, and the existing topics among `names`. Changes nothing.

    Raises: `TransientError` when the broker cannot be reached; `PermissionError` when this user may not
    describe topics.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_MS, **security.options()
    )
    try:
        await admin.start()
        brokers = len((await admin.describe_cluster())["brokers"])
        # Describe all topics, not by name: describing a missing topic may create it.
        ours = {prefix + name for name in names}
        topics = [topic for topic in await admin.describe_topics() if topic["topic"] in ours]
        configs = await _configs(admin, [topic["topic"] for topic in topics])
        return brokers, [_state(topic, configs[topic["topic"]], prefix) for topic in topics]
    except (ClusterAuthorizationFailedError, TopicAuthorizationFailedError) as error:
        raise PermissionError(type(error).__name__) from error
    except (KafkaError, OSError) as error:
        raise TransientError(type(error).__name__) from error
    finally:
        await admin.close()


async def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found = {}
    for response in await admin.describe_configs(wanted) if wanted else ():
        for code, _, _, name, entries in response.resources:
            if code:
                raise for_code(code)(name)
            found[name] = {key: value for key, value, *_ in entries}
    return found


def _state(topic: Mapping[str, Any], config: Mapping[str, str], prefix: str) -> TopicState:
    partitions = topic["partitions"]
    spec = TopicSpec(
        topic["topic"].removeprefix(prefix),
        len(partitions),
        min((len(p["replicas"]) for p in partitions), default=0),
        config,
    )
    return TopicState(
        spec,
        leaderless=sum(p["leader"] < 0 for p in partitions),
        behind=sum(len(p["isr"]) < len(p["replicas"]) for p in partitions),
    )


async def partitions_of(bootstrap: str, names: Sequence[str], security: Security) -> list[tuple[str, int]]:
    """Topic and number of each partition of the existing, visible topics among `names`.

    Raises: `TransientError` when the broker cannot be reached.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **security.options())
    try:
        await admin.start()
        # Describe all topics, as above.
        found = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
    except (KafkaError, OSError) as error:
        raise TransientError(f"broker unreachable: {type(error).__name__}") from error
    finally:
        await admin.close()
    return [(name, p["partition"]) for name in names for p in found.get(name, ())]
