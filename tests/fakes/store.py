"""The durable part of the in-memory MongoDB, and its transactions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from pymongo.errors import DuplicateKeyError, OperationFailure

from services.shared.database import Document
from services.shared.faults import DUPLICATE_KEY

WRITE_CONFLICT, NO_SUCH_TRANSACTION = 112, 251  # error_codes.yml of MongoDB
TRANSIENT = "TransientTransactionError"


class Name(NamedTuple):
    database: str
    collection: str


class Key(NamedTuple):
    name: Name
    id: Any


class Store:
    """State that outlives every process. `now` is the server's clock, `$$NOW`."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.rows: dict[Name, dict[Any, Document]] = {}
        self.commits = 0
        self.changed: dict[Key, int] = {}
        """The commit that last touched a document, even a deleted one."""
        self.locks: dict[Key, Transaction] = {}


class Transaction:
    """Reads the store as of its beginning, plus its own writes. The first writer of a document wins."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._began = store.commits
        self._rows = {name: dict(rows) for name, rows in store.rows.items()}
        self._written: dict[Key, Document | None] = {}

    def rows(self, name: Name) -> dict[Any, Document]:
        return self._rows.setdefault(name, {})

    def write(self, name: Name, id_: Any, document: Document | None) -> None:
        """Write one document. Raises: `OperationFailure` (write conflict) when another transaction wrote or
        holds it."""
        key = Key(name, id_)
        holder = self._store.locks.get(key, self)
        if holder is not self or self._store.changed.get(key, 0) > self._began:
            raise failure("WriteConflict", WRITE_CONFLICT)
        self._store.locks[key] = self
        self._written[key] = document
        if document is None:
            del self.rows(name)[id_]
        else:
            self.rows(name)[id_] = document

    def insert(self, name: Name, document: Document) -> None:
        if document["_id"] in self.rows(name):
            raise DuplicateKeyError("E11000 duplicate key", DUPLICATE_KEY, {"code": DUPLICATE_KEY})
        self.write(name, document["_id"], document)

    def commit(self) -> None:
        if self._written:
            self._store.commits += 1
        for key, document in self._written.items():
            rows = self._store.rows.setdefault(key.name, {})
            if document is None:
                rows.pop(key.id, None)
            else:
                rows[key.id] = document
            self._store.changed[key] = self._store.commits
        self.end()

    def end(self) -> None:
        """Release the locks; without a commit this aborts."""
        self._store.locks = {k: holder for k, holder in self._store.locks.items() if holder is not self}


def failure(name: str, code: int) -> OperationFailure:
    return OperationFailure(name, code, {"code": code, "errorLabels": [TRANSIENT]})
