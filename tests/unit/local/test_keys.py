from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet

from infra.local.keys import Keys


def claims_of(token: str, keys: Keys) -> dict[str, Any]:
    public = KeySet.import_key_set(json.loads(keys.jwks.read_text()))
    return jwt.decode(token, public, algorithms=["EdDSA"]).claims


def secrets_of(keys: Keys, service: str) -> Path:
    directory = keys.secrets_of(service)
    assert directory
    return directory


def test_a_minted_token_verifies_against_the_published_keys(keys):
    claims = claims_of(keys.mint("members:read groups:*", "BR-GAYA", sub="asha"), keys)
    assert claims["scope"] == "members:read groups:*"
    assert (claims["unit"], claims["sub"], claims["iss"], claims["aud"]) == (
        "BR-GAYA",
        "asha",
        "sangathan",
        "sangathan",
    )
    assert claims["nbf"] <= time.time() < claims["exp"]


def test_claims_can_be_overridden_and_unit_left_out(keys):
    claims = claims_of(keys.mint("ops:*", None, exp=1), keys)
    assert claims["exp"] == 1
    assert "unit" not in claims


def test_another_directory_has_another_key(keys, tmp_path):
    with pytest.raises(InvalidKeyIdError):
        claims_of(Keys.open(tmp_path).mint("ops:*"), keys)


def test_the_published_set_holds_no_private_part(keys):
    assert all("d" not in key for key in json.loads(keys.jwks.read_text())["keys"])


def test_keys_are_made_once_and_tokens_each_time(tmp_path):
    first = Keys.open(tmp_path)
    kept = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    tokens = {first.service_token("members"), first.service_token("notifications")}
    for token in tokens:
        token.write_text("stale")
    second = Keys.open(tmp_path)
    changed = {path for path in kept if path.read_text() != kept[path]}
    assert changed <= tokens
    scopes = {claims_of(token.read_text(), first)["scope"] for token in tokens}
    assert second.signing.kid == first.signing.kid
    assert scopes == {"holdings:read", "contacts:read groups:read invites:read"}


def test_services_get_secrets_of_the_promised_shape_and_not_the_same(tmp_path):
    keys = Keys.open(tmp_path)
    masters = [
        json.loads((secrets_of(keys, name) / "sangathan_master_keys").read_text())
        for name in ("members", "notifications")
    ]
    assert [len(base64.b64decode(value)) for master in masters for value in master.values()] == [96, 96]
    assert masters[0] != masters[1]
    assert (
        len(base64.b64decode((secrets_of(keys, "members") / "sangathan_blind_index_key").read_text())) == 32
    )
    assert keys.secrets_of("analytics") is None


def test_every_file_is_for_its_owner_only(tmp_path):
    Keys.open(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o600}


def test_containers_may_read_all_but_the_signing_key(tmp_path):
    keys = Keys.open(tmp_path)
    keys.share_with_containers()
    closed = {path.name for path in tmp_path.rglob("*") if path.is_file() and not path.stat().st_mode & 0o004}
    assert closed == {"signing.jwk"}
    Keys.open(tmp_path)
    assert keys.service_token("notifications").stat().st_mode & 0o004, "a later start removed the right again"
