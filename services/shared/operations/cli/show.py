"""Output of the command: tables for people, one JSON document per line for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)

LETTER_COLUMNS = ("id", "type", "reason", "detail", "attempts", "state", "at")
KIND_COLUMNS = ("count", "type", "reason", "oldest", "newest")


def lines(documents: Iterable[Mapping[str, Any]]) -> int:
    """Print each document on a line; returns how many."""
    shown = 0
    for document in documents:
        print(json.dumps(document, ensure_ascii=False))
        shown += 1
    return shown


def table(documents: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """Print a table; returns its number of rows."""
    rows = Table(box=None, pad_edge=False)
    for column in columns:
        rows.add_column(column, overflow="fold")
    for document in documents:
        # Text, not markup: a type comes from a header, which may hold anything.
        rows.add_row(*(Text(_cell(document[column])) for column in columns))
    out.print(rows)
    return rows.row_count


def facts(document: Mapping[str, Any]) -> None:
    """Print one document, a field per line."""
    rows = Table(box=None, pad_edge=False, show_header=False)
    for name, value in document.items():
        rows.add_row(name, Text(_cell(value)))
    out.print(rows)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
