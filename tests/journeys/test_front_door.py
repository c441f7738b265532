"""Bad callers: every running service refuses the same ones with the same problem."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import httpx2
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from infra.local.keys import AUDIENCE, ISSUER
from infra.local.stack import LocalStack

LISTINGS = {
    "members": "/v1/members",
    "groups": "/v1/groups",
    "notifications": "/v1/notifications",
    "analytics": "/v1/overview",
}
EVERYTHING = "members:* groups:* notifications:* analytics:* ops:*"


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    base = {"iss": ISSUER, "aud": AUDIENCE, "sub": "t", "iat": now, "nbf": now, "exp": now + 600}
    return {**base, "scope": EVERYTHING, "unit": "*", **changes}


def unsigned(_: LocalStack) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims())
    return ".".join(base64.urlsafe_b64encode(orjson.dumps(p)).rstrip(b"=").decode() for p in parts) + "."


def signed_with_the_public_key(stack: LocalStack) -> str:
    """HS256 with the public key as secret, which a verifier that trusts the header's `alg` would accept."""
    public = orjson.loads(stack.keys.jwks.read_bytes())["keys"][0]
    secret = OctKey.import_key(base64.urlsafe_b64decode(public["x"] + "=="))
    return jwt.encode({"alg": "HS256", "kid": public["kid"]}, claims(), secret, algorithms=["HS256"])


def signed_by_a_stranger(stack: LocalStack) -> str:
    public = orjson.loads(stack.keys.jwks.read_bytes())["keys"][0]
    key = OKPKey.generate_key("Ed25519")
    return jwt.encode({"alg": "EdDSA", "kid": public["kid"]}, claims(), key, algorithms=["EdDSA"])


UNWELCOME: dict[str, Callable[[LocalStack], str | None]] = {
    "none": lambda _: None,
    "nonsense": lambda _: "abc",
    "alg_none": unsigned,
    "hs256_with_the_public_key": signed_with_the_public_key,
    "a_strangers_key": signed_by_a_stranger,
    "expired": lambda stack: stack.mint(EVERYTHING, exp=int(time.time()) - 60),
    "not_yet_valid": lambda stack: stack.mint(EVERYTHING, nbf=int(time.time()) + 600),
    "other_audience": lambda stack: stack.mint(EVERYTHING, aud="elsewhere"),
    "other_issuer": lambda stack: stack.mint(EVERYTHING, iss="elsewhere"),
}


def get(stack: LocalStack, service: str, path: str, token: str | None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    return httpx2.get(stack.urls[service] + path, headers=headers, trust_env=False)


@pytest.mark.parametrize("service", LISTINGS)
@pytest.mark.parametrize("caller", UNWELCOME)
async def test_a_bad_token_is_401_with_a_challenge(stack: LocalStack, service: str, caller: str) -> None:
    answer = get(stack, service, LISTINGS[service], UNWELCOME[caller](stack))
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("service", LISTINGS)
async def test_a_token_without_the_scope_is_403_and_one_without_a_unit_sees_nothing(
    stack: LocalStack, service: str
) -> None:
    other = next(name for name in LISTINGS if name != service)
    assert get(stack, service, LISTINGS[service], stack.mint(f"{other}:*")).status_code == 403
    blind = get(stack, service, LISTINGS[service], stack.mint(f"{service}:*", None))
    assert blind.status_code == 404


@pytest.mark.parametrize("service", LISTINGS)
async def test_unknown_paths_and_methods_are_problems(stack: LocalStack, service: str) -> None:
    for path, status in (("/v1/nowhere", 404), ("/nowhere", 404)):
        answer = get(stack, service, path, stack.token)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    wrong = httpx2.delete(stack.urls[service] + LISTINGS[service], trust_env=False)
    assert wrong.status_code == 405
    assert "GET" in wrong.headers["allow"]


@pytest.mark.parametrize("service", LISTINGS)
async def test_health_and_metrics_need_no_token(stack: LocalStack, service: str) -> None:
    assert get(stack, service, "/livez", None).status_code == 200
    ready = get(stack, service, "/readyz", None)
    assert ready.json()["ready"] is True
    assert "sangathan_http_requests_total" in get(stack, service, "/metrics", None).text


async def test_two_megabytes_are_refused_before_they_are_read(stack: LocalStack) -> None:
    headers = {"authorization": f"Bearer {stack.token}", "content-type": "application/json"}
    body = b'{"name": "' + b"x" * 2_000_000 + b'"}'
    answer = httpx2.post(
        f"{stack.urls['members']}/v1/members", content=body, headers=headers, trust_env=False
    )
    assert answer.status_code == 413
