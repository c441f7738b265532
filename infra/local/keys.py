"""Development keys: one signing key, the tokens it signs, and the secrets of the services.

    secrets/signing.jwk                              Ed25519, private
    secrets/jwks.json                                its public half, with which services verify tokens
    secrets/revoked/revoked.json                     the list of revoked tokens, empty at first
    secrets/members/sangathan_master_keys            {"dev-1": base64 of 96 bytes}
    secrets/members/sangathan_blind_index_key        base64 of 32 bytes
    secrets/members/service_token                    signed anew on each start
    secrets/groups/sangathan_master_keys             a different key
    secrets/groups/service_token                     signed anew on each start
    secrets/notifications/sangathan_master_keys      a different key
    secrets/notifications/service_token              signed anew on each start

SANGATHAN_SECRETS_DIR of a service points at its directory.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import KeySet, OKPKey

from infra.local.errors import LocalError

ISSUER = AUDIENCE = "sangathan"
ADMIN_SCOPES = (
    "members:* contacts:read consents:* notices:* erasure:* removals:* reads:* dossiers:* holdings:* "
    "incidents:* grievances:* groups:* invites:read notifications:* analytics:* ops:*"
)
SERVICE_SCOPES = {
    "members": "holdings:read",
    "groups": "members:match contacts:read removals:write",
    "notifications": "contacts:read groups:read invites:read",
}
DAY = 86_400


@dataclass(frozen=True)
class Keys:
    """The keys kept in `directory`. Create with `Keys.open`."""

    directory: Path
    signing: OKPKey
    days: int

    @classmethod
    def open(cls, directory: Path, days: int = 30) -> Keys:
        """Read the keys, creating missing ones; tokens are valid for `days` days from their minting."""
        signing_file = directory / "signing.jwk"
        if not signing_file.exists():
            made = OKPKey.generate_key("Ed25519", {"use": "sig", "alg": "EdDSA"}, auto_kid=True)
            write_private(signing_file, json.dumps(made.as_dict(private=True)))
        try:
            signing = OKPKey.import_key(json.loads(signing_file.read_text()))
        except (ValueError, TypeError, KeyError, JoseError) as error:
            raise LocalError(
                f"{signing_file} holds no signing key ({type(error).__name__}): restore it, or delete it and "
                "its tokens become invalid"
            ) from None
        keys = cls(directory, signing, days)
        keys._write_secrets()
        return keys

    @property
    def jwks(self) -> Path:
        """The file of public keys, for SANGATHAN_JWKS."""
        return self.directory / "jwks.json"

    @property
    def revoked(self) -> Path:
        """The list of revoked tokens, for SANGATHAN_REVOKED_TOKENS.

        It has a directory of its own, which containers mount: they would not see a mounted file replaced.
        """
        return self.directory / "revoked" / "revoked.json"

    def service_token(self, service: str) -> Path:
        """The file of the token with which a service of `SERVICE_SCOPES` calls the others."""
        return self.directory / service / "service_token"

    def secrets_of(self, service: str) -> Path | None:
        """The directory for SANGATHAN_SECRETS_DIR, if the service has secrets."""
        directory = self.directory / service
        return directory if directory.is_dir() else None

    def mint(self, scopes: str, unit: str | None = "*", **claims: object) -> str:
        """A signed token. `unit` None omits the claim; `claims` add to and override the usual ones.

        For instance `mint("members:read", "BR-GAYA", sub="asha", exp=0)`.
        """
        now = int(time.time())
        usual: dict[str, object] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "local", "scope": scopes}
        usual |= {"iat": now, "nbf": now, "exp": now + self.days * DAY}
        usual |= {} if unit is None else {"unit": unit}
        header = {"alg": "EdDSA", "kid": self.signing.kid}
        with warnings.catch_warnings():
            # RFC 9864 prefers the name "Ed25519"; "EdDSA" is what verifiers in the field accept.
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.encode(header, usual | claims, self.signing, algorithms=["EdDSA"])

    def share_with_containers(self) -> None:
        """Let any user id read the files: compose mounts them unchanged, and containers run under another
        user id.

        On the host the directory itself, 0700, still keeps others out.
        """
        for path in self.directory.rglob("*"):
            if path != self.directory / "signing.jwk":
                path.chmod(0o755 if path.is_dir() else 0o644)

    def _write_secrets(self) -> None:
        write_private(self.jwks, json.dumps(KeySet([self.signing]).as_dict(private=False)))
        for service, scopes in SERVICE_SCOPES.items():
            write_private(self.service_token(service), self.mint(scopes, sub=service))
        for file, secret in {
            "revoked/revoked.json": '{"revoked": []}',
            "members/sangathan_master_keys": json.dumps({"dev-1": _random(96)}),
            "members/sangathan_blind_index_key": _random(32),
            "groups/sangathan_master_keys": json.dumps({"dev-1": _random(96)}),
            "notifications/sangathan_master_keys": json.dumps({"dev-1": _random(96)}),
        }.items():
            if not (self.directory / file).exists():
                write_private(self.directory / file, secret)


def _random(size: int) -> str:
    return base64.b64encode(secrets.token_bytes(size)).decode()


def write_private(path: Path, text: str) -> None:
    """Write atomically. A new file is readable by its owner only; an existing one keeps its mode (see
    above)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "w", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
        file.write(text)
    draft.chmod(mode)
    draft.replace(path)
