"""`python -m services.members` serves; `--help` lists its other commands."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from services.members.app import build
from services.members.imports.command import CommandError, ImportCommand
from services.members.recovery.rebuild_plan import plan
from services.members.recovery.snapshots import SOURCES
from services.members.settings import MembersSettings
from services.shared.operations.cli.target import OpsError, find
from services.shared.operations.commands import commands
from services.shared.operations.progress import Meter
from services.shared.operations.rotation import Sealed, rotate_keys

SEALED: Final = (
    Sealed("members", "contact", "contacts"),
    Sealed("erasures", "number", "numbers"),
    Sealed("erasure_seals", "sealed", "seals"),
    Sealed("grievances", "sealed", "grievances"),
    Sealed("incidents", "sealed", "incidents"),
)

ROWS_REFUSED: Final = 3
"""Exit status of an import some of whose rows were not applied."""

cli = commands(MembersSettings.load, build, plan=plan, sources=SOURCES)


@cli.command("rotate-keys")
def rotate() -> None:
    """Rotate the keys of contacts."""
    settings = MembersSettings.load()
    migrations = build(settings).migrations
    asyncio.run(rotate_keys(settings, settings.master_keys, migrations, SEALED, print))


@cli.command("imports")
def import_file(
    file: Annotated[
        Path | None, typer.Argument(help="CSV, or NDJSON if its name ends in .ndjson or .jsonl.")
    ] = None,
    follow: Annotated[str | None, typer.Option(help="Go on with an import that was sent: its id.")] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show the plan; write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Apply the plan without asking.")] = False,
    unit: Annotated[str | None, typer.Option(help="Unit of new members whose row names none.")] = None,
    mapping: Annotated[str | None, typer.Option(help='JSON, such as {"Mob 1": "phone"}.')] = None,
    announce: Annotated[str, typer.Option(help="none, or welcome: greet new members.")] = "none",
    consents: Annotated[
        str | None,
        typer.Option(
            help="Consents of new members, such as welcome:whatsapp,welcome:sms. Whoever's column `consent` "
            "says no, or is blank, gets none."
        ),
    ] = None,
    notice: Annotated[str | None, typer.Option(help="The notice that they were shown.")] = None,
    notice_language: Annotated[str, typer.Option(help="The language of that notice.")] = "hi",
    evidence: Annotated[str | None, typer.Option(help="Where the proof of the consents is kept.")] = None,
    url: Annotated[str | None, typer.Option(help="Default: SANGATHAN_MEMBERS_URL, else stack.json.")] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Directory of stack.json.")] = Path(".local"),
) -> None:
    """Import members from a file through the running service: show the plan, ask, apply. Exits with 3 when
    rows were refused; they are written beside the file, to be mended. While it follows the import it waits
    for the service for up to a minute; after a longer outage, `--follow` goes on."""
    query = {
        "unit": unit,
        "mapping": mapping,
        "announce": announce,
        "consents": consents,
        "notice": notice,
        "notice_language": notice_language if consents else None,
        "evidence": evidence,
    }
    console = Console(soft_wrap=True)

    def agreed(question: str) -> bool:
        return yes or typer.confirm(question)

    try:
        target = find("members", url, directory)
        command = ImportCommand(target.url, target.token, console, partial(Meter, console))
        if follow is not None:
            beside = file or Path(f"import-{follow[:8]}")
            clean = command.follow(follow, beside, only_plan=plan_only, agreed=agreed)
        elif file is not None:
            asked = {name: value for name, value in query.items() if value is not None}
            clean = command.run(file, asked, only_plan=plan_only, agreed=agreed)
        else:
            raise CommandError("name a file, or an import by --follow")
    except (OpsError, CommandError) as error:
        raise SystemExit(f"error: {error}") from None
    if not clean:
        raise SystemExit(ROWS_REFUSED)


if __name__ == "__main__":
    cli()
