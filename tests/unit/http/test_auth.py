"""Tokens: accepted ones, every reason for refusal, and keys that change under a running service."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from base64 import urlsafe_b64encode
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from services.shared.errors import NotFoundError
from services.shared.http.auth import MAX_REMEMBERED, Authenticator
from services.shared.http.keys import KeysUnavailable, UrlKeys, parse_keys
from services.shared.http.problem import Problem
from services.shared.identity import ALL_UNITS, Identity
from tests.unit.http.conftest import START, client_of
from tests.unit.http.test_problem import assert_problem

NOW = int(START.timestamp())


def encoded(document: object) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def write_keys(path: Path, *keys: Key) -> None:
    content = json.dumps({"keys": [key.as_dict(private=False) for key in keys]})
    replacement = path.with_suffix(".new")
    replacement.write_text(content)
    os.replace(replacement, path)


async def refused(authenticator: Authenticator, token: str) -> Problem:
    with pytest.raises(Problem) as refusal:
        await authenticator.authenticate(token)
    assert refusal.value.status == 401
    assert 'error="invalid_token"' in refusal.value.headers["WWW-Authenticate"]
    return refusal.value


async def test_a_good_token(authenticator, token):
    identity = await authenticator.authenticate(token(unit="BR-PAT", scope="things:read ops:*"))
    assert identity == Identity("user-1", frozenset({"things:read", "ops:*"}), "BR-PAT")


async def test_no_scope_and_no_unit(authenticator, token):
    identity = await authenticator.authenticate(token(unit=None, scope=None))
    assert identity == Identity("user-1", frozenset(), None)


async def test_audience_may_be_a_list(authenticator, token):
    assert await authenticator.authenticate(token(aud=["other", "sangathan"]))


async def test_clocks_may_disagree_by_seconds(authenticator, token):
    assert await authenticator.authenticate(token(exp=NOW - 2))
    assert await authenticator.authenticate(token(nbf=NOW + 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 30},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"nbf": NOW + 60},
        {"iat": NOW + 60},
        {"iss": "other"},
        {"iss": None},
        {"iss": ["sangathan"]},
        {"aud": "other"},
        {"aud": None},
        {"aud": ["other"]},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"scope": ["things:read"]},
        {"scope": 7},
        {"unit": 7},
        {"unit": ["BR"]},
        {"unit": ""},
        {"unit": "br"},
        {"unit": "BR-"},
        {"unit": "BR-A-B-C-D"},
    ],
)
async def test_claims_refused(authenticator, token, changes):
    await refused(authenticator, token(**changes))


@pytest.mark.parametrize("exp", [10**400, 1e300, NOW + 10**12])
async def test_a_token_for_ever_is_verified_again_each_hour(authenticator, token, clock, exp):
    forever = token(exp=exp)
    assert await authenticator.authenticate(forever)
    clock.advance(timedelta(hours=2))
    assert await authenticator.authenticate(forever)


async def test_alg_none(authenticator, claims):
    for alg in ("none", "None", "NONE"):
        unsigned = f"{encoded({'alg': alg, 'kid': 'k1'})}.{encoded(claims)}."
        await refused(authenticator, unsigned)


async def test_a_public_key_is_no_shared_secret(tmp_path, clock, token, claims):
    rsa = RSAKey.generate_key(2048, {"kid": "rsa"})
    path = tmp_path / "jwks.json"
    write_keys(path, rsa)
    authenticator = Authenticator(str(path), issuer="sangathan", audience="sangathan", clock=clock)
    assert await authenticator.authenticate(token(signed_by=rsa, header={"alg": "RS256", "kid": "rsa"}))
    content = f"{encoded({'alg': 'HS256', 'kid': 'rsa'})}.{encoded(claims)}"
    for secret in (rsa.as_pem(private=False), rsa.as_der(private=False), json.dumps(rsa.as_dict()).encode()):
        mac = hmac.digest(secret, content.encode(), "sha256")
        await refused(authenticator, f"{content}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}")


async def test_the_key_and_not_the_header_picks_the_algorithm(tmp_path, clock, token):
    rsa = RSAKey.generate_key(2048, {"kid": "rsa"})
    path = tmp_path / "jwks.json"
    write_keys(path, rsa)
    authenticator = Authenticator(str(path), issuer="sangathan", audience="sangathan", clock=clock)
    for alg in ("RS384", "PS256"):
        await refused(authenticator, token(signed_by=rsa, header={"alg": alg, "kid": "rsa"}))


async def test_es256(tmp_path, clock, token):
    key = ECKey.generate_key("P-256", {"kid": "ec"})
    path = tmp_path / "jwks.json"
    write_keys(path, key)
    authenticator = Authenticator(str(path), issuer="sangathan", audience="sangathan", clock=clock)
    assert await authenticator.authenticate(token(signed_by=key, header={"alg": "ES256", "kid": "ec"}))


async def test_key_ids(authenticator, token):
    stranger = OKPKey.generate_key("Ed25519", {"kid": "k2"})
    await refused(authenticator, token(signed_by=stranger, header={"alg": "EdDSA", "kid": "k2"}))
    await refused(authenticator, token(signed_by=stranger, header={"alg": "EdDSA", "kid": "k1"}))
    assert await authenticator.authenticate(token(header={"alg": "EdDSA"}))


@pytest.mark.parametrize(
    "nonsense",
    [
        "x",
        "..",
        "a.b.c",
        "é.é.é",
        "x" * 9000,
        f"{encoded([])}.{encoded({})}.",
        f"{encoded(7)}.{encoded({})}.",
        f"{encoded({'alg': 'EdDSA', 'kid': {'a': 1}})}.{encoded({})}.x",
        f"{encoded({'alg': ['EdDSA'], 'kid': 'k1'})}.{encoded({})}.x",
        f"{encoded({'alg': 'EdDSA', 'kid': 'k1', 'crit': ['b64'], 'b64': False})}.{encoded({})}.x",
        f"{encoded({'alg': 'EdDSA', 'kid': 'k1', 'jwk': {'kty': 'oct', 'k': 'eA'}})}.{encoded({})}.x",
        f"{urlsafe_b64encode(b'[' * 300).decode()}.{encoded({})}.x",
        f"{encoded({'alg': 'EdDSA', 'kid': 'k1'})}.{urlsafe_b64encode(b'[' * 3000).decode()}.x",
    ],
)
async def test_nonsense(authenticator, nonsense):
    await refused(authenticator, nonsense)


async def test_signed_nonsense(authenticator, key):
    from joserfc import jws

    for payload in (b"[]", b"7", b"[" * 5000, b"\xff", b""):
        token = jws.serialize_compact({"alg": "EdDSA", "kid": "k1"}, payload, key, algorithms=["EdDSA"])
        await refused(authenticator, token)


async def test_a_changed_byte(authenticator, token):
    head, payload, signature = token().split(".")
    await refused(authenticator, f"{head}.{payload[:-2]}AA.{signature}")
    await refused(authenticator, f"{head}.{payload}.{signature[:-4]}AAAA")


async def test_a_remembered_token_still_expires(authenticator, token, clock):
    short = token(exp=NOW + 60)
    assert await authenticator.authenticate(short)
    clock.advance(timedelta(seconds=59))
    assert await authenticator.authenticate(short)
    clock.advance(timedelta(seconds=10))
    await refused(authenticator, short)


async def test_a_remembered_token_is_not_verified_again(authenticator, token, monkeypatch):
    good = token()
    await authenticator.authenticate(good)
    monkeypatch.setattr(jwt, "decode", None)
    assert await authenticator.authenticate(good)


async def test_memory_is_bounded(authenticator, monkeypatch, token):
    monkeypatch.setattr("services.shared.http.auth.MAX_REMEMBERED", 3)
    assert MAX_REMEMBERED > 3
    for number in range(10):
        await authenticator.authenticate(token(jti=str(number)))
    assert len(authenticator._remembered) == 3


async def test_rotation_of_a_file(authenticator, jwks_path, token, clock, key):
    old = token()
    assert await authenticator.authenticate(old)
    other = OKPKey.generate_key("Ed25519", {"kid": "k2"})
    new = token(signed_by=other, header={"alg": "EdDSA", "kid": "k2"})
    write_keys(jwks_path, other, key)
    assert await authenticator.authenticate(new), "an unknown key id looks at the file at once"
    assert await authenticator.authenticate(old), "both are valid during a rotation"
    write_keys(jwks_path, other)
    clock.advance(timedelta(seconds=2))
    await refused(authenticator, old)


async def test_a_broken_file_keeps_the_old_keys(authenticator, jwks_path, token, clock, key):
    assert await authenticator.authenticate(token())
    for broken in ("", "{", '{"keys": []}', '{"keys": 7}', "[]"):
        jwks_path.write_text(broken)
        clock.advance(timedelta(seconds=2))
        assert await authenticator.authenticate(token(jti=broken))
        assert authenticator.keys_unreadable
        clock.advance(timedelta(seconds=2))
        assert await authenticator.authenticate(token(jti=f"{broken} still there"))
        assert authenticator.keys_unreadable
    jwks_path.unlink()
    clock.advance(timedelta(seconds=2))
    assert await authenticator.authenticate(token(jti="gone"))
    assert authenticator.keys_unreadable
    write_keys(jwks_path, key)
    clock.advance(timedelta(seconds=2))
    assert await authenticator.authenticate(token(jti="mended"))
    assert not authenticator.keys_unreadable


async def test_no_keys_at_all(tmp_path, clock, token):
    authenticator = Authenticator(
        str(tmp_path / "none"), issuer="sangathan", audience="sangathan", clock=clock
    )
    assert await authenticator.ready()
    with pytest.raises(Problem) as refusal:
        await authenticator.authenticate(token())
    assert refusal.value.status == 503
    await authenticator.aclose()


async def test_ready_with_keys(authenticator):
    assert await authenticator.ready() is None


class KeyServer:
    def __init__(self, *keys: Key) -> None:
        self.keys = keys
        self.calls = 0
        self.status = 200

    def transport(self) -> httpx2.MockTransport:
        def answer(request: httpx2.Request) -> httpx2.Response:
            self.calls += 1
            return httpx2.Response(
                self.status, json={"keys": [key.as_dict(private=False) for key in self.keys]}
            )

        return httpx2.MockTransport(answer)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_keys_at_a_url(key, clock, token):
    server = KeyServer(key)
    source = UrlKeys("https://issuer.example/jwks.json", server.transport())
    authenticator = Authenticator("", issuer="sangathan", audience="sangathan", clock=clock, source=source)
    assert await authenticator.authenticate(token())
    assert server.calls == 1

    other = OKPKey.generate_key("Ed25519", {"kid": "k2"})
    new = token(signed_by=other, header={"alg": "EdDSA", "kid": "k2"}, exp=NOW + 9999)
    server.keys = (key, other)
    await refused(authenticator, new)
    assert server.calls == 1, "an unknown key id is not asked for again within 30 s"
    clock.advance(timedelta(seconds=31))
    assert await authenticator.authenticate(new)
    assert server.calls == 2

    server.keys = (other,)
    clock.advance(timedelta(minutes=11))
    assert await authenticator.authenticate(new), "answered with the keys at hand"
    await settle()
    assert server.calls == 3
    await refused(authenticator, token(exp=NOW + 9999))

    server.status = 500
    clock.advance(timedelta(minutes=11))
    assert await authenticator.authenticate(new)
    await settle()
    assert server.calls == 4
    assert await authenticator.authenticate(new), "the old keys stay while the issuer is down"
    assert authenticator.keys_unreadable
    await authenticator.aclose()


def test_keys_of_other_kinds_are_passed_over(key):
    others = [
        OctKey.generate_key(256, {"kid": "secret"}).as_dict(private=True),
        OKPKey.generate_key("X25519", {"kid": "exchange"}).as_dict(private=False),
        ECKey.generate_key("P-384", {"kid": "p384"}).as_dict(private=False),
        RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False),
        {**key.as_dict(private=False), "kid": "enc", "use": "enc"},
        {**key.as_dict(private=False), "kid": "alg", "alg": "ES256"},
        {"kty": "future", "kid": "f"},
        {"kty": "OKP", "crv": "Ed25519", "x": "!"},
        "text",
    ]
    assert list(parse_keys(json.dumps({"keys": [*others, key.as_dict(private=False)]}).encode())) == ["k1"]
    with pytest.raises(KeysUnavailable):
        parse_keys(json.dumps({"keys": others}).encode())


@pytest.mark.parametrize(
    ("unit", "target", "allowed"),
    [
        ("*", "BR-PAT", True),
        (None, "BR", False),
        ("BR", "BR", True),
        ("BR", "BR-PAT-B1", True),
        ("BR-PAT", "BR", False),
        ("BR-PAT", "BR-PATNA", False),
        ("BR-PAT", "BR-PAT-B1-9", True),
    ],
)
def test_subtree(unit, target, allowed):
    identity = Identity("s", frozenset(), unit)
    assert identity.can_access(target) is allowed
    if allowed:
        identity.check_access(target)
    else:
        with pytest.raises(NotFoundError):
            identity.check_access(target)


def test_wildcard_scopes():
    identity = Identity("s", frozenset({"groups:*", "members:read"}), ALL_UNITS)
    assert identity.has_scope("groups:write")
    assert identity.has_scope("members:read")
    assert not identity.has_scope("members:write")
    assert not identity.has_scope("groupsx:write")


@pytest.mark.parametrize("header", [None, "", "Basic eDp5", "Bearer", "Bearer ", "Token x"])
async def test_without_a_token(make_app, header):
    headers = {} if header is None else {"Authorization": header}
    async with client_of(make_app(), headers) as client:
        response = await client.get("/v1/things/1")
    assert_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == 'Bearer realm="sangathan"'


async def test_with_a_bad_token(make_app, token):
    async with client_of(make_app(), {"Authorization": f"bearer {token(exp=NOW - 99)}"}) as client:
        response = await client.get("/v1/things/1")
    assert_problem(response, 401, "unauthenticated")
    assert 'error_description="the token has expired"' in response.headers["www-authenticate"]


async def test_missing_scope(make_app, token):
    async with client_of(make_app(), {"Authorization": f"Bearer {token(scope='things:read')}"}) as client:
        response = await client.post("/v1/things", json={"name": "Asha"})
    assert_problem(response, 403, "forbidden")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    assert 'scope="things:write"' in response.headers["www-authenticate"]


async def test_outside_the_subtree_looks_absent(client):
    assert (await client.get("/v1/things/1?unit=BR-PAT")).status_code == 200
    assert_problem(await client.get("/v1/things/1?unit=UP"), 404, "not-found")
