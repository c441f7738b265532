"""Give each service a MongoDB user that can read and write its own database, and nothing else.

A user and its role live in `admin` under the service's name. The role is MongoDB's `readWrite` (which covers
transactions and index creation) plus `collMod`, because a migration may set the validator of an existing
collection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

SERVICES = ("members", "groups", "notifications", "analytics")
URI_FILE = "sangathan_mongo_uri"
Document: TypeAlias = dict[str, Any]

_OPLOG: Document = {
    "resource": {"db": "local", "collection": "oplog.rs"},
    "actions": ["collStats", "find"],
}
"""Privilege that a service needs to measure how far back the oplog reaches."""


@dataclass(frozen=True)
class Account:
    """A service's user. `databases`: its own, and any that a rebuild fills."""

    service: str
    password: str
    databases: Sequence[str]
    oplog: bool = False

    @property
    def role(self) -> Document:
        """The role as `rolesInfo` shows it."""
        privileges = [
            {"resource": {"db": name, "collection": ""}, "actions": ["collMod"]} for name in self.databases
        ]
        return {
            "privileges": [*privileges, *([_OPLOG] if self.oplog else [])],
            "roles": [{"role": "readWrite", "db": name} for name in self.databases],
        }


def read_accounts(secrets: Path, also: Mapping[str, Sequence[str]], *, oplog: bool = False) -> list[Account]:
    """Each service's account from `<secrets>/<service>/sangathan_mongo_uri`, the file that it mounts.

    `also` adds databases. Raises: `OSError` when a file is missing; `ValueError` when one does not name the
    service and a password.
    """
    return [_account(secrets / name / URI_FILE, name, also.get(name, ()), oplog) for name in SERVICES]


def _account(file: Path, service: str, also: Sequence[str], oplog: bool) -> Account:
    parsed = parse_uri(file.read_text().strip())
    if parsed["username"] != service or not parsed["password"]:
        raise ValueError(f"{file} must name the user {service} and a password")
    return Account(service, parsed["password"], [service, *also], oplog)


def compare(client: MongoClient[Document], accounts: Sequence[Account]) -> list[str]:
    """The changes, a line each. A password cannot be read back, so each is set."""
    lines = []
    for account in accounts:
        if (existing := _existing_role(client, account.service)) != account.role:
            verb = "change" if existing else "create"
            lines.append(f"{verb} the role {account.service}: {', '.join(account.databases)}")
        verb = "set the password of" if _exists(client, account.service) else "create"
        lines.append(f"{verb} the user {account.service}")
    return lines


def apply(client: MongoClient[Document], accounts: Sequence[Account]) -> None:
    """Create or update the roles and users.

    Raises: `pymongo.errors.PyMongoError` when the server refuses or cannot be reached.
    """
    for account in accounts:
        name = account.service
        verb = "updateRole" if _existing_role(client, name) else "createRole"
        client.admin.command(verb, name, **account.role)
        verb = "updateUser" if _exists(client, name) else "createUser"
        roles = [{"role": name, "db": "admin"}]
        client.admin.command(verb, name, pwd=account.password, roles=roles)


def _existing_role(client: MongoClient[Document], name: str) -> Document | None:
    [*found] = client.admin.command("rolesInfo", name, showPrivileges=True)["roles"]
    if not found:
        return None
    return {
        "privileges": [{**p, "actions": sorted(p["actions"])} for p in found[0]["privileges"]],
        "roles": [{"role": role["role"], "db": role["db"]} for role in found[0]["roles"]],
    }


def _exists(client: MongoClient[Document], name: str) -> bool:
    return bool(client.admin.command("usersInfo", name)["users"])
