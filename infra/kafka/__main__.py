"""Set up a Kafka cluster: its topics, and the users of the services. Safe to run again.

The cluster and the administrator's password are `SANGATHAN_KAFKA_*`, or files of `SANGATHAN_SECRETS_DIR`, as
for a service.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from infra.kafka.access import load_access
from infra.kafka.topics import ensure_topics, load_topics
from infra.kafka.users import Users, read_passwords
from services.shared.config.settings import KafkaSettings
from services.shared.errors import TransientError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Set up a Kafka cluster."
)

Bootstrap = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Instead of SANGATHAN_KAFKA_BOOTSTRAP.", show_default=False)
]


@app.command()
def topics(
    bootstrap: Bootstrap = "",
    brokers: Annotated[int, typer.Option(help="Nodes in the cluster; replication cannot exceed it.")] = 3,
) -> None:
    """Create missing topics."""
    settings, wanted = _settings(bootstrap), load_topics(brokers)
    try:
        asyncio.run(
            ensure_topics(settings.kafka_bootstrap, wanted, security=settings.kafka_security, within=60)
        )
    except TransientError as problem:
        raise SystemExit(f"topics: {problem}") from None
    print(f"topics: {len(wanted)} exist")


@app.command()
def acls(
    bootstrap: Bootstrap = "",
    secrets: Annotated[
        Path | None,
        typer.Option(
            help="Set passwords from <service>/sangathan_kafka_sasl_password below it; else they stay."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the changes without making them.")
    ] = False,
) -> None:
    """Give each service its user and exactly the rights of access.yaml."""
    access = load_access()
    try:
        passwords = read_passwords(secrets, access) if secrets else {}
        users = Users(_settings(bootstrap))
        changes = users.compare(access, passwords)
        if not dry_run:
            users.apply(changes)
    except (TransientError, OSError) as problem:
        raise SystemExit(f"acls: {problem}") from None
    lines = [("would " if dry_run else "") + line for line in changes.describe()]
    for line in lines or ["nothing to change"]:
        print(f"acls: {line}")


def _settings(bootstrap: str) -> KafkaSettings:
    return KafkaSettings.load(**({"kafka_bootstrap": bootstrap} if bootstrap else {}))


if __name__ == "__main__":
    app()
