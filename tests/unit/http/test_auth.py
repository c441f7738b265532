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
        {"sub": "x" * 256},
        {"sub": "a\nb"},
        {"sub": "\u0906\u0936\u093e"},
        {"sub": " asha"},
        {"sub": ["user-1"]},
        {"sub": {"a": "user-1"}},
        {"jti": 7},
        {"jti": ""},
        {"jti": "x" * 5000},
        {"jti": ["a"]},
        {"aud": [["sangathan"]]},
        {"aud": [{"sangathan": 1}]},
        {"aud": {"sangathan": 1}},
        {"scope": ["things:read"]},
        {"scope": 7},
        {"unit": 7},
        {"unit": ["BR"]},
        {"unit": ""},
        {"unit": "br"},
        {"unit": "BR-"},
        {"unit": "BR-A-B-C-D-E-F-G-H"},
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


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["b64"], "b64": False},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["x"], "x": True},
        {"crit": []},
        {"crit": "alg"},
        {"b64": False},
        {"crit": ["b64"], "b64": True},
    ],
)
async def test_a_signed_header_that_asks_for_what_we_do_not_do(authenticator, claims, key, header):
    """RFC 7515, 4.1.11: what `crit` names must be understood. RFC 7797: `b64` changes what is signed."""
    head, payload = encoded({"alg": "EdDSA", "kid": "k1", **header}), encoded(claims)
    signature = key.private_key.sign(f"{head}.{payload}".encode())
    await refused(authenticator, f"{head}.{payload}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}")


async def test_of_a_claim_that_is_given_twice_the_last_counts(authenticator, claims, key):
    """RFC 7519, 4 allows that or a refusal; what is checked and what is used must be the same."""
    body = json.dumps(claims)[:-1] + ', "sub": "last", "unit": "BR-GAYA", "exp": 1}'
    for payload, good in ((body.replace(', "exp": 1}', "}"), True), (body, False)):
        signed = f"{encoded({'alg': 'EdDSA', 'kid': 'k1'})}.{urlsafe_b64encode(payload.encode()).decode()}"
        signed = signed.rstrip("=")
        signature = urlsafe_b64encode(key.private_key.sign(signed.encode())).rstrip(b"=").decode()
        if good:
            identity = await authenticator.authenticate(f"{signed}.{signature}")
            assert (identity.subject, identity.unit) == ("last", "BR-GAYA")
        else:
            await refused(authenticator, f"{signed}.{signature}")


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
    for number, broken in enumerate(("{", "{}", '{"keys": [', '{"keys": 7}', '{"keys": {"a": {}}}', "[]")):
        jwks_path.write_text(broken)
        for moment in ("now", "later"):
            clock.advance(timedelta(seconds=2))
            assert await authenticator.authenticate(token(jti=f"{number} {moment}"))
            assert authenticator.keys_unreadable
    write_keys(jwks_path, key)
    clock.advance(timedelta(seconds=2))
    assert await authenticator.authenticate(token(jti="mended"))
    assert not authenticator.keys_unreadable


@pytest.mark.parametrize("emptied", ['{"keys": []}', '{"keys": [{"kty": "future"}]}', '{"keys": ["k1"]}'])
async def test_an_emptied_set_revokes_at_once_what_it_no_longer_holds(
    authenticator, jwks_path, token, clock, key, emptied
):
    old = token()
    assert await authenticator.authenticate(old)
    jwks_path.write_text(emptied)
    clock.advance(timedelta(seconds=1))
    await refused(authenticator, old)
    await refused(authenticator, token(jti="another"))
    assert not authenticator.keys_unreadable
    assert await authenticator.ready() == "no keys to verify tokens with"
    write_keys(jwks_path, key)
    clock.advance(timedelta(seconds=1))
    assert await authenticator.authenticate(old)


@pytest.mark.parametrize("instead", ["emptied", "directory"])
async def test_a_file_without_bytes_and_a_directory_in_its_place_count_as_deleted(
    authenticator, jwks_path, token, clock, instead
):
    good = token(exp=NOW + 9999)
    assert await authenticator.authenticate(good)
    if instead == "emptied":
        jwks_path.write_bytes(b"")
    else:
        jwks_path.unlink()
        jwks_path.mkdir()
    clock.advance(timedelta(seconds=1))
    assert await authenticator.authenticate(good)
    clock.advance(timedelta(seconds=6))
    assert (await unavailable(authenticator, good)).slug == "keys-unavailable"


async def test_a_deleted_set_revokes_after_the_time_that_a_replacement_takes(
    authenticator, jwks_path, token, clock
):
    good, kept = token(exp=NOW + 9999), jwks_path.with_suffix(".kept")
    assert await authenticator.authenticate(good)
    jwks_path.rename(kept)
    for _ in range(5):  # each within the five seconds
        clock.advance(timedelta(seconds=1))
        assert await authenticator.authenticate(good)
    clock.advance(timedelta(seconds=2))
    assert (await unavailable(authenticator, good)).slug == "keys-unavailable"
    kept.rename(jwks_path)  # the same file: nothing about it has changed
    clock.advance(timedelta(seconds=1))
    assert await authenticator.authenticate(good)


async def unavailable(authenticator: Authenticator, token: str) -> Problem:
    with pytest.raises(Problem) as refusal:
        await authenticator.authenticate(token)
    assert refusal.value.status == 503
    return refusal.value


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

    assert authenticator.keys_age() == 0
    server.status = 500
    clock.advance(timedelta(minutes=11))
    assert await authenticator.authenticate(new)
    await settle()
    assert server.calls == 4
    assert await authenticator.authenticate(new), "the old keys stay while the issuer is down"
    assert authenticator.keys_unreadable
    assert authenticator.keys_age() == 660
    await authenticator.aclose()


async def test_keys_of_an_issuer_that_is_gone_are_used_for_a_day(key, clock, token):
    server = KeyServer(key)
    source = UrlKeys("https://issuer.example/jwks.json", server.transport())
    authenticator = Authenticator("", issuer="sangathan", audience="sangathan", clock=clock, source=source)
    good = token(exp=NOW + 10 * 86_400)
    assert await authenticator.authenticate(good)
    server.status = 500
    clock.advance(timedelta(hours=23))
    assert await authenticator.authenticate(good)
    await settle()
    clock.advance(timedelta(hours=1))
    assert (await unavailable(authenticator, good)).slug == "keys-unavailable"
    assert await authenticator.ready()
    server.status = 200  # with the document that it had before
    clock.advance(timedelta(seconds=31))
    assert await authenticator.authenticate(good)
    clock.advance(timedelta(days=2))  # nobody called meanwhile: such keys are not used even once
    server.status = 500
    await unavailable(authenticator, good)
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
    assert parse_keys(json.dumps({"keys": others}).encode()) == {}
    with pytest.raises(KeysUnavailable):
        parse_keys(b"{}")


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
