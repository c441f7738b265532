"""Apache Kafka without Docker: KRaft nodes, each both broker and controller, from the jars that `make kafka`
fetches."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.local.binaries import find_java, find_kafka_jars
from infra.local.errors import LocalError
from infra.local.keys import write_private
from infra.local.ports import HOST, accepts
from infra.local.processes import Child
from infra.local.secured import ADMIN, NODE, Secured
from services.shared.config.kafka_security import MECHANISM

# A small heap and one collector thread: several nodes share a developer's machine with everything else.
# ExitOnOutOfMemoryError lets the runner restart a node that would otherwise linger half-dead.
_JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")

_LOGGING = """\
Configuration:
  Appenders:
    Console:
      name: stdout
      PatternLayout: {pattern: "%d %p %m (%c{1})%n"}
  Loggers:
    Root:
      level: WARN
      AppenderRef: {ref: stdout}
"""


def apache_kafka(
    data: Path,
    log_file: Path,
    ports: Sequence[int],
    controller_ports: Sequence[int],
    number: int,
    *,
    restart: bool = True,
    secured: Secured | None = None,
) -> Child:
    """The child process of node `number` (from 1) of a cluster whose nodes listen on `ports`.

    :raises LocalError: Java or the jars are missing
    """
    directory = data / f"node-{number}"
    directory.mkdir(parents=True, exist_ok=True)
    cluster = _cluster_id(data)
    config = directory / "server.properties"
    values = _properties(directory / "log", ports, controller_ports, number)
    values |= _security(secured) if secured else {}
    write_private(config, "".join(f"{name}={value}\n" for name, value in values.items()))
    logging = directory / "log4j2.yaml"
    logging.write_text(_LOGGING)
    java = [str(find_java()), *_JVM, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{find_kafka_jars()}/*"]
    format_ = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(config)]

    async def prepare() -> None:
        if (directory / "log" / "meta.properties").exists():
            return
        if secured is None:
            await _run(format_, log_file)
            return
        with _first_user(directory, secured) as arguments:
            await _run([*format_, f"@{arguments}"], log_file)

    async def ready() -> bool:
        return await accepts(ports[number - 1])

    return Child(
        node_name(number),
        [*java, "kafka.Kafka", str(config)],
        log_file,
        ready,
        prepare=prepare,
        restart=restart,
        ready_within=240,  # two or three JVMs starting at once on two busy cores
    )


def node_name(number: int) -> str:
    """`kafka`, `kafka-2`, `kafka-3`, ..."""
    return "kafka" if number == 1 else f"kafka-{number}"


def _properties(
    log: Path, ports: Sequence[int], controller_ports: Sequence[int], number: int
) -> dict[str, object]:
    nodes = len(ports)
    replicas, in_sync = min(3, nodes), min(2, nodes)
    voters = ",".join(f"{n}@{HOST}:{port}" for n, port in enumerate(controller_ports, start=1))
    client, controller = ports[number - 1], controller_ports[number - 1]
    return {
        "process.roles": "broker,controller",
        "node.id": number,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CLIENTS://{HOST}:{client},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"CLIENTS://{HOST}:{client}",
        "inter.broker.listener.name": "CLIENTS",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,CLIENTS:PLAINTEXT",
        "log.dirs": log,
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 2,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        # The first member of a group need not wait for more: our stacks start and stop in seconds.
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    }


def _security(secured: Secured) -> dict[str, object]:
    """Clients and nodes log in by SCRAM over TLS; controllers authenticate by certificate; only granted
    rights are allowed."""
    login = secured.kafka()
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    return {
        "listener.security.protocol.map": "CONTROLLER:SSL,CLIENTS:SASL_SSL",
        "sasl.enabled.mechanisms": MECHANISM,
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        f"listener.name.clients.{MECHANISM.lower()}.sasl.jaas.config": (
            f'{module} required username="{login.username}" password="{login.password}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": secured.certificate(NODE),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": secured.ca,
        "listener.name.controller.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^.*CN=([a-z]+).*$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:{ADMIN};User:{NODE}",
    }


@contextmanager
def _first_user(directory: Path, secured: Secured) -> Iterator[Path]:
    """Storage-tool arguments that create the administrator, in a file because everyone can read a command
    line."""
    login, file = secured.kafka(), directory / "first-user"
    scram = f"{MECHANISM}=[name={login.username},password={login.password}]"
    write_private(file, f"--add-scram\n{scram}\n")
    try:
        yield file
    finally:
        file.unlink()


def _cluster_id(data: Path) -> str:
    """The id that all nodes on `data` share; created once."""
    file = data / "cluster.id"
    if not file.exists():
        # "k": an id that began with "-" would be taken for an option.
        file.write_text("k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22])
    return file.read_text()


async def _run(command: Sequence[str], log_file: Path) -> None:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        if await process.wait():
            raise LocalError(f"Kafka's storage could not be formatted; see {log_file}")
