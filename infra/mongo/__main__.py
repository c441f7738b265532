"""Set up the services' users of a MongoDB deployment. Safe to run again.

The administrator's URI is `SANGATHAN_MONGO_URI`, or the file `sangathan_mongo_uri` of
`SANGATHAN_SECRETS_DIR`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from infra.mongo.users import SERVICES, Document, apply, compare, read_accounts
from services.shared.config.settings import MongoSettings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Set up a MongoDB deployment."""


@app.command()
def users(
    secrets: Annotated[
        Path, typer.Option(help="Directory of <service>/sangathan_mongo_uri, which hold the passwords.")
    ],
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE=DATABASE", help="Repeatable: further databases, such as a rebuild's."),
    ] = None,
    oplog: Annotated[
        bool, typer.Option("--oplog", help="Let services measure how far back the oplog reaches.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the changes without making them.")
    ] = False,
) -> None:
    """Give each service a user for its own database."""
    settings = MongoSettings.load()
    try:
        accounts = read_accounts(secrets, _databases(also or []), oplog=oplog)
        client: MongoClient[Document] = MongoClient(settings.mongo_uri, serverSelectionTimeoutMS=10_000)
        with client:
            changes = compare(client, accounts)
            if not dry_run:
                apply(client, accounts)
    except (PyMongoError, OSError, ValueError) as problem:
        raise SystemExit(f"users: {problem}") from None
    for line in changes:
        print(f"users: {'would ' if dry_run else ''}{line}")


def _databases(also: list[str]) -> dict[str, list[str]]:
    databases: dict[str, list[str]] = {}
    for text in also:
        service, _, database = text.partition("=")
        if service not in SERVICES or not database:
            raise ValueError(
                f"--also {text}: expected SERVICE=DATABASE, SERVICE one of {', '.join(SERVICES)}"
            )
        databases.setdefault(service, []).append(database)
    return databases


if __name__ == "__main__":
    app()
