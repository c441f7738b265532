"""Security of connections to Kafka: TLS, a password (SCRAM-SHA-512), both or neither."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

Protocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

MECHANISM: Final = "SCRAM-SHA-512"
"""The broker never receives the password (RFC 5802) and stores only a salted hash of it."""


@dataclass(frozen=True)
class Security:
    """A client's credentials, and the authorities it trusts: those in `ca_file`, else the operating
    system's."""

    protocol: Protocol = "PLAINTEXT"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client. Reads the files at each call, because certificates are
        renewed at run time.

        Raises: `OSError` when a file cannot be read or is not a certificate.
        """
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            options["ssl_context"] = self._tls()
        if self.protocol.startswith("SASL"):
            options |= {"sasl_mechanism": MECHANISM, "sasl_plain_username": self.username}
            options |= {"sasl_plain_password": self.password}
        return options

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


UNSECURED: Final = Security()
"""Plaintext without a password, for a broker that only this machine or a private network can reach."""
