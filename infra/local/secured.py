"""A secured local stack: certificates for this machine, and a separate user for every service.

    tls/ca.pem, kafka.pem, mongo.pem                issued on each start; the authority's key is never written
    mongo.keyfile                                   authenticates the nodes of the replica set to each other
    secrets/admin/sangathan_kafka_sasl_password     made once: the stores keep the administrator
    secrets/admin/sangathan_mongo_uri               the same, with the addresses of this start
    secrets/<service>/sangathan_kafka_sasl_password, sangathan_mongo_uri    made anew on each start

Only their owner can read them. No password is on a command line or in the environment of a process.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from pymongo.uri_parser import parse_uri

from infra.kafka.access import load_access
from infra.kafka.users import PASSWORD_FILE, Users, read_passwords
from infra.local.keys import write_private
from infra.local.ports import HOST
from infra.mongo.users import SERVICES, URI_FILE, Document, apply, read_accounts
from services.shared.config.kafka_security import Security
from services.shared.config.settings import KafkaSettings

ADMIN = "admin"
NODE = "kafka"
"""Name in the certificate with which Kafka's nodes authenticate each other."""


@dataclass(frozen=True)
class Secured:
    """The files below `directory`. Create with `Secured.prepare`."""

    directory: Path

    @classmethod
    def prepare(cls, directory: Path, mongo_uri: str) -> Secured:
        """Write missing files, and those made anew on each start. `mongo_uri` names the set, without a
        user."""
        secured = cls(directory)
        secured._certify()
        key = base64.b64encode(secrets.token_bytes(96)).decode()
        _once(secured.mongo_keyfile, key)
        _once(secured.secrets / ADMIN / PASSWORD_FILE, secrets.token_urlsafe(24))
        _once(secured.secrets / ADMIN / "mongo_password", secrets.token_urlsafe(24))
        secured._write_uri(ADMIN, secured.mongo_password, mongo_uri)
        for service in SERVICES:
            write_private(secured.secrets / service / PASSWORD_FILE, secrets.token_urlsafe(24))
            secured._write_uri(service, secrets.token_urlsafe(24), mongo_uri)
        return secured

    @property
    def secrets(self) -> Path:
        return self.directory / "secrets"

    @property
    def ca(self) -> Path:
        return self.directory / "tls" / "ca.pem"

    @property
    def mongo_keyfile(self) -> Path:
        return self.directory / "mongo.keyfile"

    def certificate(self, store: str) -> Path:
        """Key and certificate of `kafka` or `mongo`, PEM."""
        return self.directory / "tls" / f"{store}.pem"

    @property
    def mongo_password(self) -> str:
        """The administrator's password."""
        return (self.secrets / ADMIN / "mongo_password").read_text()

    def mongo_uri(self, user: str = ADMIN) -> str:
        return (self.secrets / user / URI_FILE).read_text()

    def kafka(self, user: str = ADMIN) -> Security:
        """The login of a user of the cluster."""
        [password] = read_passwords(self.secrets, [user]).values()
        return Security("SASL_SSL", user, password, self.ca)

    def environment(self, service: str) -> Mapping[str, str]:
        """SANGATHAN_* variables, without their prefix, that a service needs besides its secrets."""
        return {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": service,
            "KAFKA_CA_FILE": str(self.ca),
            "SECRETS_DIR": str(self.secrets / service),
        }

    def admit_services(self, kafka: str) -> None:
        """Create the services' users on both stores, as an operator would; blocks."""
        as_admin = self.kafka()
        settings = KafkaSettings(
            kafka_bootstrap=kafka,
            kafka_security_protocol=as_admin.protocol,
            kafka_sasl_username=as_admin.username,
            kafka_sasl_password=as_admin.password,
            kafka_ca_file=as_admin.ca_file,
        )
        users, access = Users(settings), load_access()
        users.apply(users.compare(access, read_passwords(self.secrets, access)))
        self._admit_admin()
        client: MongoClient[Document] = MongoClient(self.mongo_uri())
        with client:
            apply(client, read_accounts(self.secrets, {}))

    def _admit_admin(self) -> None:
        """Create MongoDB's administrator. MongoDB lets anybody on this machine do so while it has no user."""
        nodes = parse_uri(self.mongo_uri())["nodelist"]
        addresses = [f"{host}:{port}" for host, port in nodes]
        client: MongoClient[Document] = MongoClient(
            addresses, replicaSet="rs0", tls=True, tlsCAFile=str(self.ca)
        )
        with client, contextlib.suppress(OperationFailure):  # it exists already: the data were kept
            client.admin.command("createUser", ADMIN, pwd=self.mongo_password, roles=["root"])

    def _write_uri(self, user: str, password: str, uri: str) -> None:
        text = uri.replace("mongodb://", f"mongodb://{user}:{password}@")
        text += f"&authSource=admin&tls=true&tlsCAFile={self.ca}"
        write_private(self.secrets / user / URI_FILE, text)

    def _certify(self) -> None:
        authority = trustme.CA()
        write_private(self.ca, authority.cert_pem.bytes().decode())
        for store in (NODE, "mongo"):
            made = authority.issue_cert(HOST, common_name=store)
            chain: Sequence[bytes] = [blob.bytes() for blob in made.cert_chain_pems]
            text = _pkcs8(made.private_key_pem.bytes()) + b"".join(chain)
            write_private(self.certificate(store), text.decode())


def _pkcs8(pem: bytes) -> bytes:
    """The form in which Kafka reads keys from PEM (KIP-651)."""
    key = load_pem_private_key(pem, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _once(file: Path, text: str) -> str:
    if not file.exists():
        write_private(file, text)
    return file.read_text()
