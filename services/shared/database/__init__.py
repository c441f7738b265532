"""MongoDB: connections and transactions, migrations of collections, leases, and the codec of documents."""

from __future__ import annotations

from services.shared.database.codec import Codec, as_dict
from services.shared.database.leases import Lease
from services.shared.database.metrics import MongoMetrics
from services.shared.database.migrations import Migration, check_ids, create, migrate
from services.shared.database.mongo import (
    Client,
    Collection,
    Database,
    Document,
    Session,
    blocking,
    commits_within,
    connect,
    database,
    in_snapshot,
    oplog_window,
    transact,
)
from services.shared.database.server_clock import ServerClock

__all__ = [
    "Client",
    "Codec",
    "Collection",
    "Database",
    "Document",
    "Lease",
    "Migration",
    "MongoMetrics",
    "ServerClock",
    "Session",
    "as_dict",
    "blocking",
    "check_ids",
    "commits_within",
    "connect",
    "create",
    "database",
    "in_snapshot",
    "migrate",
    "oplog_window",
    "transact",
]
