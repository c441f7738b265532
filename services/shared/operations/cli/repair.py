"""`ops repair`: a consumer learns some subjects again from the services that own them.

The consumer forgets how far it knows them; the owners publish them again. Each step can be repeated, in any
state, under traffic: effects stay, and a snapshot that is not news changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any, Final

import typer

from services.shared.operations.cli import show
from services.shared.operations.cli.client import Client
from services.shared.operations.cli.options import LOCAL, Directory, Json, Service, Url, consumer
from services.shared.operations.cli.target import OpsError, find
from services.shared.operations.doctor import expected

Subjects = Annotated[
    list[str],
    typer.Option("--subject", metavar="ID", help="Id of a member, group or notification, or a unit code."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what is known; change nothing.")]
COLUMNS: Final = ("subject", "service", "kind", "sequence")
BATCH: Final = 500
"""Most subjects that a service takes in one call."""


def repair(
    service: Service,
    subject: Subjects,
    dry_run: DryRun = False,
    json: Json = False,
    url: Url = None,
    directory: Directory = LOCAL,
) -> None:
    """Let a consumer learn subjects again from their owners: mends what a forged sequence has frozen.

    Prints the sequence that the consumer knew of each subject, and the one that its owner has. Safe to
    repeat, and under traffic.
    """
    subjects = list(dict.fromkeys(subject))
    with ExitStack() as opened:
        reader = opened.enter_context(consumer(service, url, directory))
        owners = {}
        for name in _owners(service):
            owners[name] = opened.enter_context(Client(find(name, None, directory)))
        rows = []
        for start in range(0, len(subjects), BATCH):
            rows += _repair(service, reader, owners, subjects[start : start + BATCH], dry_run=dry_run)
    if json:
        show.lines(rows)
    else:
        show.table(rows, COLUMNS)
        what = "would be learnt again" if dry_run else "will be learnt again within seconds"
        show.out.print(f"{len(subjects)} subjects {what}")


def _repair(
    service: str, reader: Client, owners: dict[str, Client], subjects: Sequence[str], *, dry_run: bool
) -> list[dict[str, Any]]:
    """Repair a batch: the sequences that the consumer knew and that the owners have. Nothing is forgotten
    that no owner can tell again."""
    found = _snapshots(owners, subjects, dry_run=True)
    if unknown := [each for each in subjects if each not in {row["subject"] for row in found}]:
        names = " and ".join(owners)
        raise OpsError(f"nothing was changed: {names} do not have {', '.join(unknown)}")
    known = [{**row, "service": service} for row in reader.forget(subjects, dry_run=dry_run)]
    if dry_run:
        return known + found
    try:
        return known + _snapshots(owners, subjects, dry_run=False)
    except OpsError as error:
        raise OpsError(f"{error}; {service} waits to learn: run the command again") from None


def _snapshots(owners: dict[str, Client], subjects: Sequence[str], *, dry_run: bool) -> list[dict[str, Any]]:
    return [
        {**row, "service": name}
        for name, owner in owners.items()
        for row in owner.snapshots(subjects, dry_run=dry_run)
    ]


def _owners(service: str) -> list[str]:
    """The services whose topics the consumer reads."""
    return [topic.rpartition(".")[2] for topic in expected.load().services[service].reads]
