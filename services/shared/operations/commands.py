"""What every `python -m services.<name>` can do: serve, `dump` and `restore`, and, where it makes sense, `rebuild` and `republish`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pymongo.errors import PyMongoError
from rich.console import Console

from services.shared.config.settings import ServiceSettings
from services.shared.errors import TransientError
from services.shared.observability.logs import configure_logs
from services.shared.operations.backup import BackupError, Manifest
from services.shared.operations.backup import dump as take_dump
from services.shared.operations.backup import restore as fill
from services.shared.operations.rebuild import Plan, Rebuild, RebuildError
from services.shared.operations.republish import Republish, Source
from services.shared.runtime import Runtime, Service, serve

S = TypeVar("S", bound=ServiceSettings)

ONLY_RESTORED = 3
"""Exit status of a rebuild that has to be run again once the service is stopped."""


def commands(
    load: Callable[[], S],
    build: Callable[..., Service],
    *,
    plan: Callable[[Runtime], Plan] | None = None,
    sources: Sequence[Source] = (),
) -> typer.Typer:
    """The command line of a service: `plan` gives it `rebuild`, `sources` give it `republish`."""
    cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @cli.callback(invoke_without_command=True)
    def default(context: typer.Context) -> None:
        """Serve, unless another command is named."""
        if context.invoked_subcommand is None:
            serve(load(), build)

    @cli.command("serve")
    def serve_command() -> None:
        """Serve until SIGTERM."""
        serve(load(), build)

    _add_dump(cli, load)
    _add_restore(cli, load)
    if plan:
        _add_rebuild(cli, load, build, plan)
    if sources:
        _add_republish(cli, load, sources)
    return cli


Directory = Annotated[Path, typer.Argument(help="Of the dump.")]
NewDatabase = Annotated[str, typer.Option(help="A new database.")]
NewGroup = Annotated[str, typer.Option(help="A new consumer group.")]


def _add_dump(cli: typer.Typer, load: Callable[[], S]) -> None:
    @cli.command()
    def dump(
        directory: Directory,
        behind: Annotated[
            bool,
            typer.Option(
                "--behind", help="The database is older than its consumer group: a restored volume."
            ),
        ] = False,
    ) -> None:
        """Write the database, as it is at one instant, into a new directory, with the place in the log it belongs to."""
        console, settings = Console(), load()
        with _or_one_line(settings):
            _tell(console, take_dump(settings, directory, console, behind=behind))


def _add_restore(cli: typer.Typer, load: Callable[[], S]) -> None:
    @cli.command()
    def restore(
        directory: Directory,
        database: NewDatabase,
        group: NewGroup,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the dump, write nothing.")] = False,
    ) -> None:
        """Fill a new database from a dump. Afterwards `rebuild --resume` takes it to the present."""
        console, settings = Console(), load()
        with _or_one_line(settings):
            manifest = fill(
                settings, directory, console, database_name=database, group=group, dry_run=dry_run
            )
            _tell(console, manifest)
        if not dry_run:
            console.print(f"Go on with: rebuild --database {database} --group {group} --resume")


@contextmanager
def _or_one_line(settings: ServiceSettings) -> Iterator[None]:
    """What is known to go wrong, said in one line."""
    _quiet(settings)
    try:
        yield
    except (BackupError, TransientError) as refused:
        raise SystemExit(f"error: {refused}") from None
    except PyMongoError as refused:  # its own words may hold a document
        said = getattr(refused, "details", None) or {}
        raise SystemExit(
            f"error: MongoDB: {type(refused).__name__} {said.get('codeName', '')}".rstrip()
        ) from None


def _tell(console: Console, manifest: Manifest) -> None:
    taken = f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    console.print(f"{manifest.service}: {manifest.documents} documents as of {taken}", highlight=False)


def _add_rebuild(
    cli: typer.Typer, load: Callable[[], S], build: Callable[..., Service], plan: Callable[[Runtime], Plan]
) -> None:
    @cli.command()
    def rebuild(
        database: NewDatabase,
        group: NewGroup,
        resume: Annotated[bool, typer.Option("--resume", help="Go on with a database begun before.")] = False,
        accept_cut_off: Annotated[
            bool,
            typer.Option(
                "--accept-cut-off", help="Our own topic has lost its beginning; snapshots say the rest."
            ),
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, write nothing.")] = False,
    ) -> None:
        """Make the state anew from the log, beside the one in use. Publishes and sends nothing."""
        console = Console()
        settings = load()
        _quiet(settings)

        async def run() -> bool:
            work = Rebuild(settings, build, plan, console, database_name=database, group=group)
            try:
                if not dry_run:
                    return await work.run(resume=resume, accept_cut_off=accept_cut_off)
                for topic, records in (await work.look()).items():
                    console.print(f"{topic}: {records} records")
                return True
            finally:
                work.close()

        try:
            finished = asyncio.run(run())
        except RebuildError as refused:
            raise SystemExit(f"error: {refused}") from None
        except KeyboardInterrupt:
            raise SystemExit("interrupted; --resume goes on") from None
        if not finished:
            raise SystemExit(ONLY_RESTORED)


def _add_republish(cli: typer.Typer, load: Callable[[], S], sources: Sequence[Source]) -> None:
    @cli.command()
    def republish(
        unit: Annotated[str | None, typer.Option(help="Only this unit and all below it.")] = None,
        after: Annotated[str, typer.Option(help="Go on after this one, as an interrupted run said.")] = "",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, stage nothing.")] = False,
    ) -> None:
        """State again all that we hold, for consumers that have lost it. The running service publishes it."""
        console = Console()
        settings = load()
        _quiet(settings)
        runtime = Runtime(settings)
        try:
            work = Republish(runtime.database, runtime.outbox, sources, console, unit=unit, after=after)
        except ValueError:
            raise SystemExit("error: --after is not what an interrupted run says") from None
        try:
            told = asyncio.run(work.count() if dry_run else work.run())
        except BaseException:
            if work.reached:
                console.print(f"To go on: --after {work.reached}")
            raise
        finally:
            runtime.close()
        for name, count in told.items():
            console.print(f"{name}: {count}")


def _quiet(settings: ServiceSettings) -> None:
    """Only what goes wrong: the command speaks for itself."""
    configure_logs(
        service=settings.service, instance=settings.instance, level="WARNING", fmt=settings.log_format
    )
