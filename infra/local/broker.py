"""The stack's broker. `BROKERS` lists the kinds that `--broker` accepts."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from infra.local.apache_kafka import apache_kafka, node_name
from infra.local.binaries import find_embedded_broker
from infra.local.errors import LocalError
from infra.local.ports import HOST, Ports, accepts
from infra.local.processes import Child
from infra.local.secured import Secured


class BrokerKind(Protocol):
    """Makes the child processes of one kind of broker, a node per port; `spare` supplies further ports."""

    def __call__(
        self,
        data: Path,
        logs: Path,
        ports: Sequence[int],
        spare: Ports,
        *,
        restart: bool = True,
        secured: Secured | None = None,
    ) -> list[Child]: ...


def embedded(
    data: Path,
    logs: Path,
    ports: Sequence[int],
    spare: Ports,
    *,
    restart: bool = True,
    secured: Secured | None = None,
) -> list[Child]:
    """`noida-db`, for development only; one node.

    It writes its log to disk about once a second and on SIGTERM: after SIGKILL it loses what it acknowledged
    since. So it receives SIGTERM, not SIGKILL, should this process die.

    :raises LocalError: more than one node is requested, or users and TLS
    """
    if secured:
        raise LocalError("the embedded broker supports neither users nor TLS; --secure needs --broker kafka")
    if len(ports) != 1:
        raise LocalError("the embedded broker is a single node; several need --broker kafka")
    [port] = ports
    data.mkdir(parents=True, exist_ok=True)
    command = [str(find_embedded_broker()), "start", "--only", "kafka", "--kafka-port", str(port)]
    command += ["--host", HOST, "--data-dir", str(data)]

    async def ready() -> bool:
        return await accepts(port)

    log_file = logs / "kafka.log"
    return [Child("kafka", command, log_file, ready, restart=restart, death_signal=signal.SIGTERM)]


def apache(
    data: Path,
    logs: Path,
    ports: Sequence[int],
    spare: Ports,
    *,
    restart: bool = True,
    secured: Secured | None = None,
) -> list[Child]:
    """Apache Kafka in KRaft mode, one or more nodes."""
    controllers = [spare.take() for _ in ports]
    return [
        apache_kafka(
            data, logs / f"{node_name(n)}.log", ports, controllers, n, restart=restart, secured=secured
        )
        for n in range(1, len(ports) + 1)
    ]


BROKERS: dict[str, BrokerKind] = {"embedded": embedded, "kafka": apache}
DEFAULT_BROKER = os.environ.get("SANGATHAN_LOCAL_BROKER", "embedded")
"""The broker of a stack that names none, so the same tests and demo run on each."""
