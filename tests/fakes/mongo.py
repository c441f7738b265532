"""An in-memory MongoDB: the part of motor that messaging uses, with snapshot transactions and write
conflicts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar, cast

import bson
from bson.codec_options import CodecOptions
from pymongo import ReplaceOne
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.results import UpdateResult

from services.shared.database import Document, mongo
from tests.fakes import Step, unhindered
from tests.fakes.expressions import Update, matches, project, updated
from tests.fakes.store import (
    NO_SUCH_TRANSACTION,
    TRANSIENT,
    WRITE_CONFLICT,
    Name,
    Store,
    Transaction,
    failure,
)

T = TypeVar("T")
TZ_AWARE: CodecOptions[Document] = CodecOptions(document_class=dict, tz_aware=True)
UNKNOWN = "UnknownTransactionCommitResult"


class MemoryClient:
    def __init__(self, store: Store, step: Step = unhindered) -> None:
        self.store = store
        self.step = step

    def get_database(self, name: str, **_: object) -> MemoryDatabase:
        return MemoryDatabase(self, name)

    async def start_session(self) -> MemorySession:
        return MemorySession(self)

    async def drop_database(self, name: str) -> None:
        self.store.rows = {key: rows for key, rows in self.store.rows.items() if key.database != name}

    def close(self) -> None:
        pass

    async def reach(self, step: str, session: MemorySession | None = None) -> None:
        """Raises: the driver's own error for a network failure, with the driver's labels."""
        try:
            await self.step(step)
        except ConnectionError as error:
            lost = AutoReconnect(str(error))
            if session and session.in_transaction:
                lost._add_error_label(UNKNOWN if step.startswith("commit") else TRANSIENT)
            raise lost from error


class MemorySession:
    def __init__(self, client: MemoryClient) -> None:
        self._client = client
        self.in_transaction = False
        self._aborted = False
        self._transaction: Transaction | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()

    async def with_transaction(self, body: Callable[[MemorySession], Awaitable[T]], **_: object) -> T:
        """Like the driver: repeats `body` after a transient error, and the commit while its outcome is
        unknown."""
        while True:
            self.in_transaction, self._aborted, self._transaction = True, False, None
            try:
                result = await body(self)
                await self._commit()
                return result
            except PyMongoError as error:
                if not error.has_error_label(TRANSIENT):
                    raise
            finally:
                self._end()

    async def _commit(self) -> None:
        while True:
            try:
                await self._client.reach("commit", self)
                if self._aborted:
                    raise failure("NoSuchTransaction", NO_SUCH_TRANSACTION)
                if self._transaction:
                    self._transaction.commit()
                    self._transaction = None
                await self._client.reach("commit done", self)
                return
            except PyMongoError as error:
                if not error.has_error_label(UNKNOWN):
                    raise

    def transaction(self) -> Transaction:
        """The transaction; its snapshot is taken at the first operation, not at the start."""
        if self._aborted:
            raise failure("NoSuchTransaction", NO_SUCH_TRANSACTION)
        if self._transaction is None:
            self._transaction = Transaction(self._client.store)
        return self._transaction

    def fail(self) -> None:
        """Abort, as the server does at a transaction's first error, whatever the client makes of it."""
        self._end()
        self.in_transaction = self._aborted = True

    def _end(self) -> None:
        if self._transaction:
            self._transaction.end()
        self._transaction, self.in_transaction = None, False


class MemoryDatabase:
    def __init__(self, client: MemoryClient, name: str) -> None:
        self._client = client
        self._name = name

    def __getitem__(self, collection: str) -> MemoryCollection:
        return MemoryCollection(self._client, Name(self._name, collection))


class MemoryCursor:
    def __init__(self, fetch: Callable[[], Awaitable[list[Document]]]) -> None:
        self._fetch = fetch
        self._order: list[tuple[str, int]] = []
        self._limit: int | None = None

    def sort(self, field: str, direction: int) -> Self:
        self._order.append((field, direction))
        return self

    def limit(self, number: int) -> Self:
        self._limit = number
        return self

    async def to_list(self, length: int | None) -> list[Document]:
        rows = _sorted(await self._fetch(), self._order)
        return rows[: self._limit][:length]

    async def __aiter__(self) -> AsyncIterator[Document]:
        for row in await self.to_list(None):
            yield row


class MemoryCollection:
    def __init__(self, client: MemoryClient, name: Name) -> None:
        self._client = client
        self._name = name

    def with_options(self, **_: object) -> Self:
        """Unchanged: each read here sees one instant, whatever its read concern."""
        return self

    # -- reads ---------------------------------------------------------------------------------------------

    def find(
        self,
        query: Mapping[str, Any] | None = None,
        projection: Mapping[str, int] | None = None,
        *,
        session: MemorySession | None = None,
    ) -> MemoryCursor:
        return MemoryCursor(lambda: self._read("find", query, projection, session))

    async def find_one(
        self,
        query: Mapping[str, Any] | None = None,
        projection: Mapping[str, int] | None = None,
        *,
        sort: Sequence[tuple[str, int]] = (),
        session: MemorySession | None = None,
    ) -> Document | None:
        rows = _sorted(await self._read("find_one", query, None, session), sort)
        return project(rows[0], projection) if rows else None

    async def count_documents(self, query: Mapping[str, Any]) -> int:
        return len(await self._read("count", query, None, None))

    async def estimated_document_count(self) -> int:
        return len(await self._read("count", None, None, None))

    async def distinct(self, field: str, query: Mapping[str, Any] | None = None) -> list[Any]:
        return list({row[field] for row in await self._read("distinct", query, None, None)})

    async def _read(
        self,
        operation: str,
        query: Mapping[str, Any] | None,
        projection: Mapping[str, int] | None,
        session: MemorySession | None,
    ) -> list[Document]:
        await self._client.reach(f"{operation} {self._name.collection}", session)
        transaction = session.transaction() if session else Transaction(self._client.store)
        found = [row for row in transaction.rows(self._name).values() if matches(row, query or {})]
        return [project(_copy(row), projection) for row in found]

    # -- writes --------------------------------------------------------------------------------------------

    async def insert_one(self, document: Document, *, session: MemorySession | None = None) -> None:
        document.setdefault("_id", bson.ObjectId())
        await self._write("insert", session, lambda t: t.insert(self._name, _copy(document)))

    async def insert_many(
        self, documents: Sequence[Document], *, session: MemorySession | None = None
    ) -> None:
        for document in documents:
            document.setdefault("_id", bson.ObjectId())

        def change(transaction: Transaction) -> None:
            for index, document in enumerate(documents):
                try:
                    transaction.insert(self._name, _copy(document))
                except DuplicateKeyError as error:
                    raise BulkWriteError({"writeErrors": [{"index": index, "code": error.code}]}) from error

        await self._write("insert", session, change)

    async def delete_one(self, query: Mapping[str, Any], *, session: MemorySession | None = None) -> None:
        await self._write("delete", session, lambda t: self._delete(t, query, 1))

    async def delete_many(self, query: Mapping[str, Any], *, session: MemorySession | None = None) -> None:
        await self._write("delete", session, lambda t: self._delete(t, query, None))

    def _delete(self, transaction: Transaction, query: Mapping[str, Any], most: int | None) -> None:
        found = [id_ for id_, row in transaction.rows(self._name).items() if matches(row, query)]
        for id_ in found[:most]:
            transaction.write(self._name, id_, None)

    async def replace_one(
        self,
        query: Mapping[str, Any],
        document: Document,
        *,
        upsert: bool = False,
        session: MemorySession | None = None,
    ) -> None:
        await self._write("update", session, lambda t: self._change(t, query, lambda _: document, upsert))

    async def bulk_write(
        self,
        writes: Sequence[ReplaceOne[Document]],
        *,
        ordered: bool,
        session: MemorySession | None = None,
    ) -> None:
        def change(transaction: Transaction) -> None:
            for write in writes:
                document = dict(write._doc)
                self._change(transaction, write._filter, lambda _, new=document: new, bool(write._upsert))  # type: ignore[misc]

        await self._write("update", session, change)

    async def update_many(
        self, query: Mapping[str, Any], update: Update, *, session: MemorySession | None = None
    ) -> UpdateResult:
        now = self._client.store.now

        def change(transaction: Transaction) -> int:
            found = [row for row in transaction.rows(self._name).values() if matches(row, query)]
            for row in found:
                transaction.write(self._name, row["_id"], _copy(updated(row, update, now())))
            return len(found)

        count = await self._write("update", session, change)
        return UpdateResult({"n": count, "nModified": count}, acknowledged=True)

    async def update_one(
        self,
        query: Mapping[str, Any],
        update: Update,
        *,
        upsert: bool = False,
        session: MemorySession | None = None,
    ) -> None:
        await self.find_one_and_update(query, update, upsert=upsert, session=session)

    async def find_one_and_update(
        self,
        query: Mapping[str, Any],
        update: Update,
        *,
        upsert: bool = False,
        return_document: bool = True,
        session: MemorySession | None = None,
    ) -> Document | None:
        if not return_document:
            raise NotImplementedError("the document before the update")
        now = self._client.store.now
        return await self._write(
            "update",
            session,
            lambda t: self._change(t, query, lambda row: updated(row, update, now()), upsert),
        )

    def _change(
        self,
        transaction: Transaction,
        query: Mapping[str, Any],
        change: Callable[[Document], Document],
        upsert: bool,
    ) -> Document | None:
        for id_, row in transaction.rows(self._name).items():
            if matches(row, query):
                new = _copy({**change(row), "_id": id_})
                transaction.write(self._name, id_, new)
                return _copy(new)
        if not upsert:
            return None
        given = {field: value for field, value in query.items() if not isinstance(value, dict)}
        new = _copy({"_id": bson.ObjectId(), **given, **change(given)})
        transaction.insert(self._name, new)
        return _copy(new)

    async def _write(
        self, operation: str, session: MemorySession | None, change: Callable[[Transaction], T]
    ) -> T:
        step = f"{operation} {self._name.collection}"
        await self._client.reach(step, session)
        if session:
            try:
                return change(session.transaction())
            except PyMongoError:
                session.fail()
                raise
        result = await self._write_alone(step, change)
        await self._client.reach(f"{step} done")
        return result

    async def _write_alone(self, step: str, change: Callable[[Transaction], T]) -> T:
        """Write without a transaction, waiting for any transaction that holds the document."""
        while True:
            own = Transaction(self._client.store)
            try:
                result = change(own)
                own.commit()
                return result
            except OperationFailure as error:
                if isinstance(error, BulkWriteError):  # the documents before the failed one stay
                    own.commit()
                if error.code != WRITE_CONFLICT:
                    raise
            finally:
                own.end()
            await self._client.reach(f"{step} waits")


def client(store: Store, step: Step = unhindered) -> mongo.Client:
    """A client of the store, typed as the real one."""
    return cast(mongo.Client, MemoryClient(store, step))


def _copy(document: Document) -> Document:
    """A copy through BSON: dates in milliseconds, tuples as lists, nothing shared with the caller."""
    return bson.decode(bson.encode(document), codec_options=TZ_AWARE)


def _sorted(rows: list[Document], order: Sequence[tuple[str, int]]) -> list[Document]:
    for field, direction in reversed(order):
        rows = sorted(rows, key=lambda row: row[field], reverse=direction < 0)
    return rows
