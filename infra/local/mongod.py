"""A MongoDB replica set: transactions need a set, and one node is the smallest; three survive the loss of
one."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from infra.local.binaries import find_mongod
from infra.local.errors import LocalError
from infra.local.ports import HOST
from infra.local.processes import Child, ChildFailed
from infra.local.secured import ADMIN, Secured

_Client: TypeAlias = AsyncMongoClient[dict[str, Any]]

# error_codes.yml of MongoDB
_NOT_YET_INITIALIZED = 94
_AUTHENTICATION_FAILED = 18


def mongo_uri(*ports: int) -> str:
    """The URI for services. It names the set, so that drivers follow a step-down."""
    hosts = ",".join(f"{HOST}:{port}" for port in ports)
    return f"mongodb://{hosts}/?replicaSet=rs0&w=majority"


def replica_set(
    data: Path, logs: Path, ports: Sequence[int], *, restart: bool = True, secured: Secured | None = None
) -> list[Child]:
    """A node for each of `ports`, in `data` (the first) and `data-2`, `data-3`, ...; start them together."""
    names = ["mongo", *(f"mongo-{n}" for n in range(2, len(ports) + 1))]
    return [
        mongod(
            data.with_name(name),
            logs / f"{name}.log",
            port,
            name=name,
            members=ports,
            restart=restart,
            secured=secured,
        )
        for name, port in zip(names, ports, strict=True)
    ]


def mongod(
    data: Path,
    log_file: Path,
    port: int,
    *,
    name: str = "mongo",
    members: Sequence[int] = (),
    restart: bool = True,
    secured: Secured | None = None,
) -> Child:
    """A `mongod` with its files in `data`; ready once its set, with the ports `members`, has a primary.

    The first of `members` forms the set; a node without `members` is a set by itself.
    """
    data.mkdir(parents=True, exist_ok=True)
    members = tuple(members) or (port,)
    command = [str(find_mongod()), "--dbpath", str(data), "--port", str(port), "--bind_ip", HOST]
    command += ["--replSet", "rs0", "--wiredTigerCacheSizeGB", "0.5", "--nounixsocket", "--quiet"]
    command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    # A killed process leaves its transaction open, and the documents it wrote locked, until the server ends
    # it: by default after 60 s. Our transactions have a deadline of 8 s.
    command += ["--setParameter", "transactionLifetimeLimitSeconds=15"]
    # Failpoints (configureFailPoint), for tests that need a fault at the right moment.
    command += ["--setParameter", "enableTestCommands=1"]
    # All nodes stop at once here, so a primary would wait in vain for the others to catch up.
    command += ["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"]

    command += _security(secured) if secured else []

    async def ready() -> bool:
        return await _serves(port, members, secured)

    return Child(name, command, log_file, ready, restart=restart, explain=explain)


def explain(failure: ChildFailed) -> LocalError:
    """Reword a failed start whose reason is known, with the remedy; else return the failure unchanged."""
    if "error while loading shared libraries" in failure.last_words:
        return LocalError("mongod needs two system libraries: sudo apt-get install -y libcurl4 libssl3")
    if "GLIBC_" in failure.last_words:
        return LocalError(
            "mongod needs a newer Linux (Debian 12, Ubuntu 22.04 or later), or a mongod >= 6 on PATH"
        )
    if failure.code == -signal.SIGILL:
        return LocalError("mongod needs a processor with AVX (MongoDB 5.0 and later do)")
    return failure


def _security(secured: Secured) -> list[str]:
    """A key file authenticates the nodes to each other, and turns authorization on."""
    return [
        *("--keyFile", str(secured.mongo_keyfile)),
        *("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(secured.certificate("mongo"))),
        *("--tlsCAFile", str(secured.ca), "--tlsAllowConnectionsWithoutCertificates"),
    ]


def _node(port: int, secured: Secured | None, *, as_admin: bool = False) -> _Client:
    options: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 500}
    if secured:
        options |= {"tls": True, "tlsCAFile": str(secured.ca)}
        options |= {"username": ADMIN, "password": secured.mongo_password} if as_admin else {}
    return AsyncMongoClient(HOST, port, **options)


async def _serves(port: int, members: Sequence[int], secured: Secured | None) -> bool:
    with contextlib.suppress(PyMongoError):
        async with _node(port, secured) as client:
            hello = await client.admin.command("hello")
            if hello["isWritablePrimary"] or (hello["secondary"] and "primary" in hello):
                return True
        if port == members[0]:
            await _form_set(port, [f"{HOST}:{member}" for member in members], secured)
    return False


async def _form_set(port: int, addresses: Sequence[str], secured: Secured | None) -> None:
    """Initiate the set; on kept data with other ports, reconfigure it to the new addresses."""
    members = [{"_id": n, "host": address} for n, address in enumerate(addresses)]
    async with _node(port, secured, as_admin=True) as client:
        try:
            config = (await client.admin.command("replSetGetConfig"))["config"]
        except OperationFailure as failure:
            # Without data no administrator exists to log in as, and anybody on this machine may initiate.
            if failure.code not in (_NOT_YET_INITIALIZED, _AUTHENTICATION_FAILED):
                raise
            async with _node(port, secured) as anybody:
                await anybody.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
            return
        if [member["host"] for member in config["members"]] != list(addresses):
            config["members"] = members
            config["version"] += 1
            await client.admin.command("replSetReconfig", config, force=True)
