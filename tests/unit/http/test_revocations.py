"""Revoked tokens: by subject, by id and by time of issue; and a list that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.shared.http.auth import Authenticator
from services.shared.http.metrics import AuthMetrics
from services.shared.http.problem import Problem
from services.shared.http.revocations import (
    MAX_BYTES,
    MAX_ENTRIES,
    RevocationList,
    RevocationsError,
    parse_revocations,
)
from tests.unit.http.test_auth import NOW, refused, unavailable

Make = Callable[[], Authenticator]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "revoked.json"
    path.write_text('{"revoked": []}')
    return path


@pytest.fixture
def revoked(path: Path) -> RevocationList:
    return RevocationList(path)


@pytest.fixture
def metrics(registry: CollectorRegistry) -> AuthMetrics:
    return AuthMetrics(registry)


@pytest.fixture
def authenticator(jwks_path, clock, revoked, metrics) -> Authenticator:
    made = Authenticator(
        str(jwks_path),
        issuer="sangathan",
        audience="sangathan",
        clock=clock,
        revoked=revoked,
        on_revoked=metrics.revoked.inc,
    )
    metrics.watch(made, revoked)
    return made


def write(path: Path, *entries: object) -> None:
    path.write_text(json.dumps({"revoked": entries}))


@pytest.mark.parametrize(
    ("entry", "refused_claims", "good_claims"),
    [
        ({"sub": "user-1"}, {}, {"sub": "user-2"}),
        ({"jti": "a-1"}, {"jti": "a-1"}, {"jti": "a-2"}),
        ({"jti": "a-1"}, {"jti": "a-1", "sub": "user-2"}, {"sub": "a-1"}),
        ({"sub": "user-1", "issued_before": "2026-07-01T11:59:00Z"}, {"iat": NOW - 61}, {"iat": NOW - 60}),
        ({"sub": "user-1", "issued_before": "2026-07-01T17:29:00+05:30"}, {"iat": None}, {"iat": NOW}),
    ],
)
async def test_a_token_in_use_is_revoked_within_a_second(
    authenticator, path, clock, token, entry, refused_claims, good_claims
):
    lost, good = token(**refused_claims), token(**good_claims)
    assert await authenticator.authenticate(lost)
    assert await authenticator.authenticate(good)
    write(path, entry)
    clock.advance(timedelta(seconds=1))
    assert (await refused(authenticator, lost)).detail == "the token has been revoked"
    assert await authenticator.authenticate(good)
    write(path)
    clock.advance(timedelta(seconds=1))
    assert await authenticator.authenticate(lost), "taken off the list"


async def test_the_widest_entry_of_a_subject_counts():
    dated = {"sub": "a", "issued_before": "2026-07-01T00:00:00Z"}
    for entries in ([dated, {"sub": "a"}], [{"sub": "a"}, dated]):
        revoked = parse_revocations(json.dumps({"revoked": entries}).encode())
        assert revoked.cover({"sub": "a", "iat": 2**60})


BROKEN = {
    "empty": b"",
    "cut": b'{"revoked": [{"sub": "user-2"}',
    "lines": b'{"sub": "user-2"}\n{"sub": "user-3"}',
    "other key": b'{"revoke": []}',
    "more keys": b'{"revoked": [], "revoke": []}',
    "key twice": b'{"revoked": [{"sub": "user-1"}], "revoked": []}',
    "name twice": b'{"revoked": [{"sub": "user-1", "sub": "user-2"}]}',
    "no list": b'{"revoked": {"sub": "user-1"}}',
    "unknown field": b'{"revoked": [{"sub": "user-1", "iat": 7}]}',
    "sub and jti": b'{"revoked": [{"sub": "user-1", "jti": "a"}]}',
    "number": b'{"revoked": [{"sub": 7}]}',
    "empty sub": b'{"revoked": [{"sub": ""}]}',
    "space": b'{"revoked": [{"sub": "user-1 "}]}',
    "date only": b'{"revoked": [{"sub": "a", "issued_before": "2026-07-01"}]}',
    "no zone": b'{"revoked": [{"sub": "a", "issued_before": "2026-07-01T00:00:00"}]}',
    "seconds": b'{"revoked": [{"sub": "a", "issued_before": 1782907200}]}',
    "deep": b"[" * 100_000,
    "not UTF-8": b'{"revoked": [{"sub": "\xff"}]}',
    "large": b" " * MAX_BYTES + b'{"revoked": []}',
    "many": json.dumps({"revoked": [{"sub": f"u{n}"} for n in range(MAX_ENTRIES + 1)]}).encode(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_list_is_refused_and_not_quoted(name):
    with pytest.raises(RevocationsError) as refusal:
        parse_revocations(BROKEN[name])
    assert "user-" not in str(refusal.value)


async def test_a_list_that_cannot_be_read_leaves_the_last_one_in_force(
    authenticator, path, clock, token, registry
):
    lost, good = token(), token(sub="user-2")
    write(path, {"sub": "user-1"})
    await refused(authenticator, lost)
    value = registry.get_sample_value
    for broken in (BROKEN["empty"], BROKEN["cut"], None):
        path.write_bytes(broken) if broken is not None else path.unlink()
        clock.advance(timedelta(seconds=1))
        await refused(authenticator, lost)
        assert await authenticator.authenticate(good)
        assert value("sangathan_auth_revocations_unreadable") == 1
        assert value("sangathan_auth_revocations") == 1
    write(path, {"sub": "user-2"}, {"jti": "b"})
    clock.advance(timedelta(seconds=1))
    await refused(authenticator, good)
    assert value("sangathan_auth_revocations_unreadable") == 0
    assert value("sangathan_auth_revocations") == 2
    assert value("sangathan_auth_tokens_revoked_total") == 5


async def test_without_a_list_from_the_start_nobody_is_let_in(authenticator, path, clock, token):
    path.write_bytes(BROKEN["cut"])
    problem = await unavailable(authenticator, token())
    assert (problem.slug, problem.headers) == ("revocations-unavailable", {"Retry-After": "5"})
    assert await authenticator.ready() == "the list of revoked tokens cannot be read"
    write(path)
    clock.advance(timedelta(seconds=1))
    assert await authenticator.authenticate(token())
    assert await authenticator.ready() is None


async def test_the_list_is_not_read_again_while_it_stays(authenticator, path, clock, token, monkeypatch):
    await authenticator.authenticate(token())
    monkeypatch.setattr("services.shared.http.revocations.parse_revocations", None)
    for _ in range(3):
        clock.advance(timedelta(seconds=2))
        assert await authenticator.authenticate(token())


async def test_a_refused_token_is_not_remembered(authenticator, path, token):
    write(path, {"sub": "user-1"})
    for _ in range(2):
        with pytest.raises(Problem):
            await authenticator.authenticate(token())
    assert not authenticator._remembered
