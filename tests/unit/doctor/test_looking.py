"""Facts that the doctor can read, and facts that it cannot, which it never reports as well."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from infra.local.ports import HOST, Ports
from services.shared.clock import SystemClock
from services.shared.database.mongo import Oplog
from services.shared.operations.cli.app import app
from services.shared.operations.cli.target import OpsError
from services.shared.operations.doctor import expected, looking, over_http
from services.shared.operations.doctor.access import Access, find
from services.shared.operations.doctor.examination import examination
from services.shared.operations.doctor.facts import Process, Sample, Store
from services.shared.operations.doctor.findings import Finding, Unseen, Verdict, exit_code
from services.shared.operations.doctor.over_tls import Endpoint, certificate
from services.shared.operations.doctor.stores import judged

EXPECTED = expected.load()
NOW = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)
READY = {"ready": True, "reasons": {}}


class Still:
    def now(self) -> datetime:
        return NOW


async def process(answers: dict[str, httpx2.Response], service: str = "") -> Process:
    """The process as seen by a doctor whose clock stands at `NOW`."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path not in answers:
            raise httpx2.ConnectError("refused")
        return answers[request.url.path]

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        seen = await over_http.processes(http, Access(urls=[(service, "http://g")]), Still())
    assert not isinstance(seen, Unseen)
    return seen[0]


def ready(date: str = "Tue, 24 Nov 2026 12:00:00 GMT") -> httpx2.Response:
    return httpx2.Response(200, json=READY, headers={"Date": date})


METRICS = (
    'sangathan_build_info{service="groups",version="0.1.0"} 1\nsangathan_consumer_lag_seconds{topic="t"} 7\n'
)


async def test_a_process_reports_its_service_and_metrics():
    seen = await process({"/readyz": ready(), "/metrics": httpx2.Response(200, text=METRICS)})
    assert (seen.service, seen.version, seen.fault, seen.skew) == ("groups", "0.1.0", "", 0)
    assert seen.values("sangathan_consumer_lag_seconds") == [({"topic": "t"}, 7.0)]


@pytest.mark.parametrize(
    ("date", "skew"),
    [("Tue, 24 Nov 2026 12:00:09 GMT", 8.5), ("Tue, 24 Nov 2026 11:59:50 GMT", -9.5)],
)
async def test_clock_skew_counts_only_the_certain_difference(date, skew):
    assert (await process({"/readyz": ready(date)})).skew == skew


async def test_a_process_that_is_unready_or_dead_or_not_ours():
    unready = httpx2.Response(
        503, json={"ready": False, "reasons": {"mongodb": "x"}}, headers=ready().headers
    )
    assert (await process({"/readyz": unready})).reasons == {"mongodb": "x"}
    assert (await process({}, "groups")).fault == "ConnectError"
    assert (await process({"/readyz": httpx2.Response(200, text="<html>")})).fault


async def test_refused_metrics_are_blind_not_well():
    seen = await process({"/readyz": ready(), "/metrics": httpx2.Response(403)}, "groups")
    findings = services_findings([seen])
    assert [f.verdict for f in findings if f.area == "metrics"] == [Verdict.BLIND]
    assert not [f for f in findings if f.area in {"fuse", "lag", "dead letters", "outbox"}]
    assert exit_code(findings) == 2


async def test_a_metric_that_no_process_exports_is_skipped():
    seen = await process({"/readyz": ready(), "/metrics": httpx2.Response(200, text=METRICS)})
    verdicts = {f.area: f.verdict for f in services_findings([seen])}
    assert verdicts["lag"] is Verdict.WELL
    assert verdicts["fuse"] is verdicts["dead letters"] is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("window", "held", "told"), [(30, 1, True), (20, 2, True), (20, 0.5, False), (30, 0.5, True)]
)
def test_a_young_oplog_is_not_judged_by_its_pace(window: float, held: float, told: bool) -> None:
    seen = judged(Oplog("rs0", window=window * 3600, held=held * 3600))
    assert (seen == window * 3600) is told
    assert isinstance(seen, Unseen) is not told


NOWHERE = Unseen("no address", "give one", Verdict.SKIPPED)


def services_findings(processes: list[Process], store: Store | Unseen = NOWHERE) -> list[Finding]:
    facts = looking.Facts(processes, NOWHERE, store, NOWHERE, NOWHERE, NOWHERE, NOWHERE)
    return examination(facts, EXPECTED, "0.1.0", NOW)


def test_a_service_without_an_address_is_reported():
    findings = services_findings([Process("groups", "http://g")])
    skipped = [f.said for f in findings if f.area == "services" and f.verdict is Verdict.SKIPPED]
    assert [said.split(":")[1].split(",")[0].strip() for said in skipped] == [
        "analytics",
        "members",
        "notifications",
    ]
    unknown = services_findings([Process("http://g", "http://g", fault="ConnectError")])
    assert [f.verdict for f in unknown if f.area == "services"] == [Verdict.WRONG]


def test_facts_a_user_may_not_read_are_reported_and_the_rest_is_checked():
    forbidden = Unseen("the oplog: Unauthorized", "let this user")
    store = Store(skew=0, members=forbidden, oplog_seconds=forbidden, databases={"groups": forbidden})
    by_area = {f.area: f.verdict for f in services_findings([], store)}
    assert by_area["clocks"] is Verdict.WELL
    assert by_area["replica set"] is by_area["oplog"] is by_area["indexes"] is Verdict.BLIND


def verdicts(*found: Verdict) -> list[Finding]:
    return [Finding("a", verdict, "s", "c") for verdict in found]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([Verdict.WELL, Verdict.SKIPPED], 0),
        ([Verdict.WELL, Verdict.BLIND, Verdict.WRONG], 1),
        ([Verdict.WELL, Verdict.BLIND], 2),
        ([Verdict.SKIPPED], 2),
        ([], 2),
    ],
)
def test_the_exit_code(found, code):
    assert exit_code(verdicts(*found)) == code


async def test_absent_stores_are_wrong_and_no_password_is_shown():
    port = Ports().take()
    uri = f"mongodb://doctor:secret@{HOST}:{port}/?serverSelectionTimeoutMS=200"
    access = Access(
        mongo=uri, kafka=f"{HOST}:{port}", jwks="/nowhere/jwks.json", prometheus=f"http://{HOST}:{port}"
    )
    facts = await looking.look(access, EXPECTED, SystemClock())
    findings = examination(facts, EXPECTED, "0.1.0", NOW)
    wrong = {f.area.split(",")[0] for f in findings if f.verdict is Verdict.WRONG}
    assert wrong == {"topics", "replica set", "token keys", "alerts"}
    assert not [f for f in findings if f.verdict is Verdict.WELL]
    assert "secret" not in repr(findings)


def test_options_override_the_environment_which_overrides_the_stack(tmp_path, monkeypatch):
    stack = {
        "processes": {"groups": "http://l", "groups-2": "http://l2"},
        "mongo": "mongodb://l",
        "jwks": "j",
    }
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    local = find(("groups",), [], [], tmp_path, prometheus_url="http://p")
    assert list(local.urls) == [("groups", "http://l"), ("groups", "http://l2")]
    assert (local.mongo, local.jwks, local.prometheus) == ("mongodb://l", "j", "http://p")

    monkeypatch.setenv("SANGATHAN_GROUPS_URL", "http://e/")
    monkeypatch.setenv("SANGATHAN_MONGO_URI", "mongodb://e")
    there = find(("groups",), [], ["groups=groups2"], tmp_path)
    assert list(there.urls) == [("groups", "http://e")]
    assert (there.mongo, there.jwks, there.databases) == ("mongodb://e", "", {"groups": "groups2"})
    assert list(find(("groups",), ["http://o"], [], tmp_path).urls) == [("", "http://o")]
    with pytest.raises(OpsError):
        find(("groups",), [], ["groups2"], tmp_path)


def test_the_command_with_nothing_to_check_is_not_well(tmp_path):
    result = CliRunner().invoke(app, ["doctor", "--dir", str(tmp_path), "--json"])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 2
    assert {line["verdict"] for line in lines} == {"skipped"}
    assert all(line["cure"] for line in lines)


def pair(directory: Path, days: int) -> tuple[Path, Path]:
    """A self-signed certificate for this machine, and its key."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "t")]),
    )
    now, host = datetime.now(UTC), x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return cert_file, key_file


@asynccontextmanager
async def speaks_tls(cert_file: Path, key_file: Path) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    server = await asyncio.start_server(lambda _, writer: writer.close(), HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_certificates_are_read_and_untrusted_ones_reported(tmp_path):
    cert_file, key_file = pair(tmp_path, days=90)
    async with speaks_tls(cert_file, key_file) as port:
        good = await certificate(Endpoint("localhost", port, str(cert_file)))
        stranger = await certificate(Endpoint("localhost", port))
    assert good.fault == ""
    assert good.expires_at
    assert 88 <= (good.expires_at - datetime.now(UTC)).days <= 90
    assert stranger.fault.startswith("self-signed certificate")
    assert (await certificate(Endpoint("localhost", port))).fault == "ConnectionRefusedError"

    cert_file, key_file = pair(tmp_path, days=-1)
    async with speaks_tls(cert_file, key_file) as port:
        expired = await certificate(Endpoint("localhost", port, str(cert_file)))
    assert expired.fault == "certificate has expired"


def test_what_is_well_of_some_says_of_how_many_and_who_was_not_asked():
    """A frozen service says nothing; those that answer cannot speak for it."""
    full = EXPECTED.partitions("groups")
    metrics: dict[str, list[Sample]] = {"sangathan_consumer_assigned_partitions": [({}, float(full))]}
    groups = Process("groups", "http://g", version="0.1.0", metrics=metrics)
    members = Process("members", "http://m", version="0.1.0", metrics=Unseen("http://m/metrics: 404", "x"))
    analytics = Process("analytics", "http://a", fault="ReadTimeout")
    said = {f.area: f.said for f in services_findings([groups, members, analytics]) if f.verdict == "well"}
    assert said["readiness"] == (
        "all processes that answer are ready, of 2 of 4; not asked: analytics at http://a, notifications"
    )
    assert said["partitions"] == (
        "every partition has a reader, of 1 of 4; "
        "not asked: analytics at http://a, members at http://m, notifications"
    )
    everyone = [
        Process(name, f"http://{name}", version="0.1.0", metrics=metrics) for name in EXPECTED.services
    ]
    assert not [f for f in services_findings(everyone) if "not asked" in f.said]
