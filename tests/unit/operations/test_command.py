"""The command's requests and its output to the operator; the journey covers the API itself."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import time_machine
from typer.testing import CliRunner

from services.shared.operations.cli import app as command
from services.shared.operations.cli import client, options, repair, show
from services.shared.operations.cli.ages import age
from services.shared.operations.cli.client import Client
from services.shared.operations.cli.target import OpsError, Target, find

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LETTER = {
    "id": "t:0:10",
    "type": "[red]member.sang",
    "reason": "unknown_type",
    "detail": "",
    "attempts": 1,
    "state": "dead",
    "at": "2026-11-24T10:00:00Z",
}
Answer = Callable[[httpx2.Request], httpx2.Response]


class Service:
    """Answers every call with the next given answer, and records the calls."""

    def __init__(self, *answers: Any, status: int = 200) -> None:
        self.calls: list[httpx2.Request] = []
        self._answers = list(answers)
        self._status = status

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/readyz":
            return httpx2.Response(200)
        self.calls.append(request)
        return httpx2.Response(self._status, json=self._answers.pop(0))

    @property
    def paths(self) -> list[str]:
        return [f"{call.method} {call.url.path.removeprefix('/v1/ops')}" for call in self.calls]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("SANGATHAN_GROUPS_URL", "http://groups")
    monkeypatch.setenv("SANGATHAN_TOKEN", "token")
    for console in (show.out, show.err):  # COLUMNS is read when they are made, which may be long ago
        monkeypatch.setattr(console, "_width", 200)

    def invoke(service: Service, *arguments: str, stdin: str = "") -> Any:
        transport = httpx2.MockTransport(service)
        for module in (options, repair):
            monkeypatch.setattr(module, "Client", lambda target: Client(target, transport))
        named = () if "--service" in arguments else ("--service", "groups")
        with time_machine.travel(NOW, tick=False):
            return CliRunner().invoke(command.app, [*arguments, *named], input=stdin)

    return invoke


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800)])
def test_ages_are_parsed(text: str, seconds: int) -> None:
    assert age(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2 h", "2h30m", "२h", "1e3s", "9999999d"])
def test_invalid_ages_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an age is"):
        age(text)


def test_a_list_requests_every_page_with_its_filters(run: Any) -> None:
    service = Service({"items": [LETTER], "next": "c1"}, {"items": [LETTER], "next": None})
    result = run(service, "dead-letters", "list", "--type", "x", "--older-than", "2h", "--newer-than", "1d")
    assert result.exit_code == 0
    first, second = (dict(call.url.params) for call in service.calls)
    assert first == {
        "type": "x",
        "state": "dead",
        "until": "2026-11-24T10:00:00+00:00",
        "since": "2026-11-23T12:00:00+00:00",
        "limit": "500",
    }
    assert second == {**first, "cursor": "c1"}
    assert service.calls[0].headers["authorization"] == "Bearer token"
    assert result.stdout.count("[red]member.sang") == 2, "shown as it is, not as markup"


def test_json_is_a_document_a_line(run: Any) -> None:
    result = run(Service({"items": [LETTER, LETTER], "next": None}), "dead-letters", "list", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [LETTER, LETTER]


@pytest.mark.parametrize("what", ["replay", "discard"])
@pytest.mark.parametrize(
    "which", [(), ("t:0:1", "--all"), ("--type", "x", "--all"), ("t:0:1", "--type", "x")]
)
def test_letters_are_selected_in_exactly_one_way(run: Any, what: str, which: tuple[str, ...]) -> None:
    service = Service()
    why = ("--why", "a test") if what == "discard" else ()
    assert run(service, "dead-letters", what, *which, *why).exit_code == 2
    assert not service.calls


def answer(replayed: int, *, failed: int = 0, cursor: str | None = None) -> dict[str, Any]:
    failures = [{"id": f"t:0:{n}", "reason": "handler_error", "detail": "KeyError"} for n in range(failed)]
    counts = {"replayed": replayed, "failed": failed, "withheld": 0, "held": 0}
    return {**counts, "remaining": 0, "failures": failures, "next": cursor}


def test_a_replay_goes_on_until_nothing_remains(run: Any) -> None:
    service = Service(answer(100, cursor="c1"), answer(7))
    result = run(service, "dead-letters", "replay", "--all")
    assert result.exit_code == 0
    assert "107 replayed, 0 failed" in result.stdout
    assert [call.url.params.get("cursor") for call in service.calls] == [None, "c1"]


def test_letters_that_stay_dead_are_named_and_are_exit_code_1(run: Any) -> None:
    result = run(Service(answer(3, failed=1)), "dead-letters", "replay", "--reason", "x", "--json")
    assert result.exit_code == 1
    failure, counts = (json.loads(line) for line in result.stdout.splitlines())
    assert failure["id"] == "t:0:0"
    assert counts == {"replayed": 3, "failed": 1, "withheld": 0, "held": 0}


def test_a_dry_run_changes_nothing(run: Any) -> None:
    for what in (("replay",), ("discard", "--why", "a test")):
        service = Service({"total": 12, "items": []})
        result = run(service, "dead-letters", *what, "--type", "x", "--dry-run")
        assert "12 would be" in result.stdout
        assert service.paths == ["GET /dead-letters/summary"]


def test_a_bulk_discard_asks_first(run: Any) -> None:
    discard = ("dead-letters", "discard", "--all", "--why", "a test")
    refused = Service({"total": 2, "items": []})
    assert run(refused, *discard, stdin="n\n").exit_code == 1
    assert refused.paths == ["GET /dead-letters/summary"]
    for stdin, given in (("y\n", ()), ("", ("--yes",))):
        service = Service({"total": 2, "items": []}, {"discarded": 2, "remaining": 1})
        result = run(service, *discard, *given, stdin=stdin)
        assert (result.exit_code, "2 discarded" in result.stdout) == (0, True)
        assert json.loads(service.calls[1].content) == {"reason": "a test"}


def test_the_id_of_a_letter_is_one_segment_of_the_path(run: Any) -> None:
    service = Service({"id": "a/b:0:1"})
    run(service, "dead-letters", "show", "a/b:0:1")
    assert service.calls[0].url.raw_path == b"/v1/ops/dead-letters/a%2Fb%3A0%3A1"


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 503])
def test_a_refusal_is_one_line(run: Any, status: int) -> None:
    problem = {"title": "No", "detail": "the scope ops:write is required"}
    result = run(Service(problem, status=status), "fuse", "reset")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == f"error: groups refuses: {status} the scope ops:write is required\n"


def test_a_service_that_does_not_answer_is_one_line() -> None:
    with (
        Client(Target("groups", "http://127.0.0.1:1", "t")) as client,
        pytest.raises(OpsError, match=r"groups at .* does not answer"),
    ):
        client.fuse()


def test_where_the_address_and_the_token_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROUPS_URL", "TOKEN", "TOKEN_FILE"):
        monkeypatch.delenv(f"SANGATHAN_{name}", raising=False)
    with pytest.raises(OpsError, match="no address of a service 'groups'"):
        find("groups", None, tmp_path)
    with pytest.raises(OpsError, match="no token"):
        find("groups", "http://x", tmp_path)
    facts = {"services": {"groups": "http://stack"}, "token": "of the stack"}
    (tmp_path / "stack.json").write_text(json.dumps(facts))
    assert find("groups", None, tmp_path) == Target("groups", "http://stack", "of the stack")
    with pytest.raises(OpsError, match=r"no address of a service 'nope' \(groups\)"):
        find("nope", None, tmp_path)
    monkeypatch.setenv("SANGATHAN_GROUPS_URL", "http://environment/")
    (tmp_path / "token").write_text("of the file\n")
    monkeypatch.setenv("SANGATHAN_TOKEN_FILE", str(tmp_path / "token"))
    assert find("groups", None, tmp_path) == Target("groups", "http://environment", "of the file")
    monkeypatch.setenv("SANGATHAN_TOKEN", "of the environment")
    assert find("groups", "http://option", tmp_path) == Target(
        "groups", "http://option", "of the environment"
    )


@pytest.mark.parametrize("name", ["member", "group", "Groups", "http://groups"])
def test_a_wrong_service_is_told_the_names(run: Any, name: str) -> None:
    service = Service()
    result = run(service, "fuse", "show", "--service", name)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("--service is members, groups, notifications or analytics\n")
    assert not service.calls


KINDS = [
    {"count": 2, "type": "member.left", "reason": "handler_error", "oldest": "x", "newest": "x"},
    {"count": 1, "type": None, "reason": "not_a_cloudevent", "oldest": "x", "newest": "x"},
]
NOTHING = {"total": 0, "items": []}


@pytest.mark.parametrize(
    ("arguments", "answers", "told"),
    [
        (("list", "--reason", "nope"), [{"items": [], "next": None}], "reason 'nope'; there are: handler_er"),
        (("summary", "--type", "nope"), [NOTHING], "type 'nope'; there are: -, member.left"),
        (("replay", "--reason", "nope"), [answer(0)], "reason 'nope'; there are: handler_error, not_a_cl"),
        (("replay", "--type", "member", "--dry-run"), [NOTHING], "type 'member'; there are: -, member.left"),
        (("discard", "--type", "x", "--why", "a test"), [NOTHING], "type 'x'; there are: -, member.left"),
    ],
)
def test_a_filter_that_selects_nothing_is_told_what_exists(
    run: Any, arguments: tuple[str, ...], answers: list[Any], told: str
) -> None:
    kinds = {"total": 3, "items": KINDS}
    result = run(Service(*answers, kinds, {"discarded": 0, "remaining": 0}), "dead-letters", *arguments)
    assert result.exit_code == 0
    assert f"no letter has the {told}" in result.stderr


def test_a_service_that_never_answers_is_given_up_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a frozen one: the kernel accepts the connection, and nobody reads it."""
    monkeypatch.setattr(client, "FIRST_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with (
            Client(Target("groups", address, "t")) as frozen,
            pytest.raises(OpsError, match=r"does not answer.*restart it if it hangs"),
        ):
            frozen.fuse()
        assert time.monotonic() - began < 2


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMBERS", "NOTIFICATIONS"):
        monkeypatch.setenv(f"SANGATHAN_{name}_URL", f"http://{name.lower()}")


def rows(*subjects: str, kind: str = "member.snapshot", sequence: int = 2) -> dict[str, Any]:
    return {"items": [{"subject": each, "kind": kind, "sequence": sequence} for each in subjects]}


@pytest.mark.usefixtures("owners")
def test_a_repair_forgets_what_its_owners_have_and_publishes_it_again(run: Any) -> None:
    known = rows("m1", "n1", kind="placements", sequence=500_000)
    service = Service(rows("m1"), rows("n1"), known, rows("m1"), rows("n1"))
    result = run(service, "repair", "--subject", "m1", "--subject", "n1", "--subject", "m1", "--json")
    assert result.exit_code == 0, result.output
    calls = [(call.url.host, call.url.path, json.loads(call.content)) for call in service.calls]
    assert calls == [
        ("members", "/v1/ops/snapshots", {"subjects": ["m1", "n1"], "dry_run": True}),
        ("notifications", "/v1/ops/snapshots", {"subjects": ["m1", "n1"], "dry_run": True}),
        ("groups", "/v1/ops/repairs", {"subjects": ["m1", "n1"], "dry_run": False}),
        ("members", "/v1/ops/snapshots", {"subjects": ["m1", "n1"], "dry_run": False}),
        ("notifications", "/v1/ops/snapshots", {"subjects": ["m1", "n1"], "dry_run": False}),
    ]
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["service"], row["subject"], row["sequence"]) for row in shown] == [
        ("groups", "m1", 500_000),
        ("groups", "n1", 500_000),
        ("members", "m1", 2),
        ("notifications", "n1", 2),
    ]


@pytest.mark.usefixtures("owners")
def test_a_dry_run_of_a_repair_forgets_and_publishes_nothing(run: Any) -> None:
    service = Service(rows("m1"), rows(), rows("m1", kind="placements"))
    result = run(service, "repair", "--subject", "m1", "--dry-run")
    assert "1 subjects would be learnt again" in result.stdout
    assert all(json.loads(call.content)["dry_run"] for call in service.calls)


@pytest.mark.usefixtures("owners")
def test_what_no_owner_has_is_not_forgotten(run: Any) -> None:
    service = Service(rows("m1"), rows())
    result = run(service, "repair", "--subject", "m1", "--subject", "ghost")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: nothing was changed: members and notifications do not have ghost\n",
    )
    assert service.paths == ["POST /snapshots"] * 2


@pytest.mark.usefixtures("owners")
def test_an_owner_that_fails_after_the_consumer_forgot_is_told_with_what_to_do(run: Any) -> None:
    class Failing(Service):
        def __call__(self, request: httpx2.Request) -> httpx2.Response:
            if len(self.calls) == 3 and request.url.path != "/readyz":
                return httpx2.Response(503, json={"title": "Service unavailable"})
            return super().__call__(request)

    service = Failing(rows("m1"), rows(), rows("m1", kind="placements"))
    result = run(service, "repair", "--subject", "m1")
    assert result.exit_code == 1
    assert result.stderr.endswith("unavailable; groups waits to learn: run the command again\n")


@pytest.mark.parametrize(
    ("reasons", "code"), [({"mongodb": "no answer in 2 s"}, 1), ({"tokens": "no keys yet"}, 0), ({}, 0)]
)
def test_a_service_without_its_database_is_told_before_a_long_call(
    run: Any, reasons: dict[str, str], code: int
) -> None:
    class Unready(Service):
        def __call__(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.path == "/readyz":
                return httpx2.Response(503, json={"ready": False, "reasons": reasons})
            return super().__call__(request)

    closed = {"open": False, "since": None, "cause": None, "dead": None, "of": None}
    service = Unready(closed)
    result = run(service, "fuse", "show")
    assert result.exit_code == code
    assert bool(service.calls) is (code == 0)
    assert ("groups at http://groups does not reach MongoDB: no answer in 2 s" in result.stderr) is bool(code)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("TOKEN", "a\u0928b", "the token is not a line of ASCII"),
        ("TOKEN", "a\nb", "the token is not a line of ASCII"),
        ("TOKEN_FILE", b"\xff", "the token file cannot be read: it is not UTF-8"),
        ("TOKEN_FILE", None, "the token file cannot be read: No such file"),
        ("GROUPS_URL", "http://groups:port", "http://groups:port is no address of groups"),
        ("GROUPS_URL", "groups:8000", "groups at groups:8000 does not answer"),
    ],
)
def test_a_malformed_token_or_address_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | bytes | None, told: str
) -> None:
    monkeypatch.setenv("SANGATHAN_GROUPS_URL", "http://127.0.0.1:1")
    if variable == "TOKEN_FILE":
        monkeypatch.delenv("SANGATHAN_TOKEN", raising=False)
        if isinstance(value, bytes):
            (tmp_path / "token").write_bytes(value)
        monkeypatch.setenv("SANGATHAN_TOKEN_FILE", str(tmp_path / "token"))
    else:
        monkeypatch.setenv("SANGATHAN_TOKEN", "t")
        monkeypatch.setenv(f"SANGATHAN_{variable}", str(value))
    result = CliRunner().invoke(command.app, ["fuse", "show", "--service", "groups", "--dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {told}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("content", ["", "[", "7", '["a"]'])
def test_a_malformed_stack_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    with pytest.raises(OpsError, match="cannot be read"):
        find("groups", None, tmp_path)


def test_revoking_adds_to_the_list_and_replaces_it_at_once(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "revoked.json"

    def revoke(*arguments: str) -> Any:
        return CliRunner().invoke(command.app, ["revoke", "--file", str(file), *arguments])

    for arguments, entries in (
        (("--sub", "asha"), 1),
        (("--sub", "asha"), 1),
        (("--jti", 'a"b'), 2),
        (("--sub", "ravi", "--until-now"), 3),
    ):
        with time_machine.travel(NOW, tick=False):
            assert revoke(*arguments).stdout == f"{entries} entries\n"
    before = file.read_text()
    assert json.loads(before)["revoked"][2] == {"sub": "ravi", "issued_before": "2026-11-24T12:00:00+00:00"}
    refusals: dict[tuple[str, ...], int] = {
        (): 2,
        ("--sub", "a", "--jti", "b"): 2,
        ("--jti", "b", "--until-now"): 2,
        ("--sub", "a\n"): 1,
        ("--sub", ""): 1,
    }
    for wrong, code in refusals.items():
        assert revoke(*wrong).exit_code == code
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["revoked.json"]
    file.write_text('{"revoked": [{"sub": "asha"}')
    refused = revoke("--sub", "ravi")
    assert (refused.exit_code, file.read_text()) == (1, '{"revoked": [{"sub": "asha"}')
    assert refused.stderr == f"error: {file}: it is not JSON\n"
