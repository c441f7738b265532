"""The secured stack: the flow works for services with least privilege, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from infra.kafka.access import Access, load_access
from infra.kafka.topics import load_topics
from infra.kafka.users import Changes, Users
from infra.local.demo.api import Api
from infra.local.ports import Ports
from infra.local.processes import tail
from infra.local.secured import Secured
from infra.local.services import SERVICES
from infra.local.stack import LocalStack
from services.shared.config.kafka_security import UNSECURED, Security
from services.shared.config.settings import KafkaSettings
from services.shared.errors import TransientError
from services.shared.messaging import KafkaBroker, Message
from services.shared.operations.commands import ONLY_RESTORED
from tests.journeys.joining import join
from tests.journeys.test_doctor import doctor
from tests.journeys.test_rebuild import command as run

pytestmark = [pytest.mark.kafka, pytest.mark.heavy, pytest.mark.timeout(240)]

TOPICS = [topic.name for topic in load_topics(1)]


@pytest.fixture(scope="module")
def started() -> Iterator[list[tuple[Sequence[str], dict[str, str]]]]:
    """Command line and environment of every started process, including short-lived ones."""
    seen: list[tuple[Sequence[str], dict[str, str]]] = []
    start = asyncio.create_subprocess_exec

    async def noting(*command: str, **options: Any) -> asyncio.subprocess.Process:
        seen.append((command, dict(options.get("env") or os.environ)))
        return await start(*command, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", noting)
        yield seen


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory, started: Any) -> AsyncIterator[LocalStack]:
    directory = tmp_path_factory.mktemp("secured")
    async with LocalStack(directory, broker="kafka", secure=True) as running:
        yield running


@pytest.fixture
def secured(stack: LocalStack) -> Secured:
    assert stack.secured
    return stack.secured


def as_(stack: LocalStack, security: Security) -> KafkaBroker:
    return KafkaBroker(stack.kafka, client_id="test", security=security)


async def test_members_join_are_placed_welcomed_and_counted(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.token, connections=12) as api:
        accepted, lines = await join(api, 40)
        assert len(accepted) == 40
        assert all(line.balances for line in lines), lines
        sent = [n async for n in api.pages("notifications", "/v1/notifications") if n["state"] == "sent"]
        assert sent, "nobody was welcomed"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_touch_the_topics_of_its_code_and_no_others(
    stack: LocalStack, secured: Secured, service: str
) -> None:
    login = secured.kafka(service)
    admin = AdminClient(
        {
            "bootstrap.servers": stack.kafka,
            "security.protocol": login.protocol,
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": login.username,
            "sasl.password": login.password,
            "ssl.ca.location": str(login.ca_file),
        }
    )
    may = load_access()[service]
    answers = admin.describe_topics(TopicCollection(TOPICS), include_authorized_operations=True)
    found = {name: authorized(future) for name, future in answers.items()}
    assert {name for name, allowed in found.items() if AclOperation.WRITE in allowed} == set(may.writes)
    assert {name for name, allowed in found.items() if AclOperation.READ in allowed} == set(may.reads)
    harmless = {AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE}
    assert set().union(*found.values()) <= harmless


async def test_analytics_cannot_write_what_members_say(stack: LocalStack, secured: Secured) -> None:
    await publish(stack, secured.kafka("groups"), "groups.dlq")  # an allowed write goes through
    with pytest.raises(PermissionError, match="topic_denied"):
        await publish(stack, secured.kafka("analytics"), "sangathan.members")


async def test_notifications_cannot_read_the_dead_letters_of_groups(
    stack: LocalStack, secured: Secured
) -> None:
    assert await fetch(stack, secured.kafka("notifications"), "notifications.test", "sangathan.groups")
    with pytest.raises(TransientError, match="TopicAuthorizationFailedError"):
        await fetch(stack, secured.kafka("notifications"), "notifications.test", "groups.dlq")


async def test_nobody_takes_part_in_the_consumer_group_of_another(
    stack: LocalStack, secured: Secured
) -> None:
    with pytest.raises(TransientError, match="GroupAuthorizationFailedError"):
        await fetch(stack, secured.kafka("notifications"), "groups", "sangathan.members")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_sees_its_own_database_alone(secured: Secured, service: str) -> None:
    client: MongoClient[dict[str, Any]] = MongoClient(secured.mongo_uri(service))
    with client:
        client[service].probe.insert_one({"_id": service})
        client[service].command("collMod", "probe", validator={})  # as migrations do
        client[service].drop_collection("probe")
        for other in {*SERVICES, "admin", "local", "config"} - {service}:
            for attempt in (client[other].things.find_one, client[other].things.insert_one):
                with pytest.raises(OperationFailure) as refused:
                    attempt({"_id": 1})
                assert refused.value.code == 13, "Unauthorized"


async def test_without_a_login_nothing_is_allowed(stack: LocalStack, secured: Secured) -> None:
    certain: dict[str, Any] = {"tls": True, "tlsCAFile": str(secured.ca), "serverSelectionTimeoutMS": 5000}
    client: MongoClient[dict[str, Any]] = MongoClient(stack.mongo, **certain)
    with client, pytest.raises(OperationFailure) as refused:
        client.members.members.find_one()
    assert refused.value.code == 13
    for nobody in (UNSECURED, Security("SSL", ca_file=secured.ca)):
        with pytest.raises((TransientError, PermissionError)):
            await publish(stack, nobody, "groups.dlq")


async def test_a_broker_of_an_unknown_authority_is_not_trusted(stack: LocalStack, secured: Secured) -> None:
    with pytest.raises(TransientError, match="unreachable"):
        await publish(stack, replace(secured.kafka("groups"), ca_file=None), "groups.dlq")


WRONG = "wrong-horse-battery"


@pytest.mark.parametrize(
    ("store", "complaint"),
    [
        ("kafka", "SaslAuthenticationFailed: Authentication failed"),
        ("mongo", "AuthenticationFailed"),
    ],
)
async def test_a_wrong_password_is_named_in_the_log_and_not_shown(
    stack: LocalStack, secured: Secured, tmp_path: Path, store: str, complaint: str
) -> None:
    environment = stack.environment("groups") | {"SANGATHAN_HTTP_PORT": str(Ports().take())}
    if store == "kafka":
        environment["SANGATHAN_KAFKA_SASL_PASSWORD"] = WRONG
    else:
        nodes = stack.mongo.removeprefix("mongodb://")
        environment["SANGATHAN_MONGO_URI"] = (
            f"mongodb://groups:{WRONG}@{nodes}&authSource=admin&tls=true&tlsCAFile={secured.ca}"
        )
    text = await said_until(environment, tmp_path / "log", complaint)
    assert complaint in text
    assert WRONG not in text


async def test_passwords_are_in_files_and_nowhere_else(
    stack: LocalStack, secured: Secured, started: list[tuple[Sequence[str], dict[str, str]]]
) -> None:
    passwords = {
        *(secured.kafka(user).password for user in (*SERVICES, "admin")),
        *(secured.mongo_uri(user).split("@")[0].rpartition(":")[2] for user in (*SERVICES, "admin")),
        secured.mongo_keyfile.read_text(),
    }
    assert len(passwords) == 11
    assert len([1 for command, _ in started if "kafka.Kafka" in command]) == 1  # all were recorded
    for command, environment in started:
        said = " ".join([*command, *environment.values()])
        assert not [p for p in passwords if p in said], command[0]
    logs = list((stack.directory / "logs").glob("*.log"))
    assert {log.stem for log in logs} >= {*SERVICES, "kafka", "mongo"}
    for log in logs:
        text = log.read_text(errors="replace")
        assert text, log
        assert not [p for p in passwords if p in text], log
    assert not [p for p in passwords if p in (stack.directory / "stack.json").read_text()]
    for file in secured.directory.rglob("*"):
        if file.is_file() and "data" not in file.relative_to(secured.directory).parts:
            assert file.stat().st_mode & 0o077 == 0, file


def authorized(answer: Future[Any]) -> set[AclOperation]:
    refused = answer.exception(20)
    if isinstance(refused, KafkaException) and refused.args[0].name() == "TOPIC_AUTHORIZATION_FAILED":
        return set()
    return set(answer.result().authorized_operations)


@pytest.mark.parametrize(
    ("command", "first"),
    [
        (("infra.kafka", "acls", "--bootstrap"), "acls: nothing to change"),
        (("infra.mongo", "users", "--secrets"), "users: would set the password of the user members"),
    ],
)
async def test_a_dry_run_says_what_would_change(
    stack: LocalStack, secured: Secured, command: tuple[str, ...], first: str
) -> None:
    where = stack.kafka if "acls" in command else str(secured.secrets)
    assert (await said(stack, secured, *command, where, "--dry-run")).splitlines()[0] == first


async def test_rights_that_drifted_are_put_back(stack: LocalStack, secured: Secured) -> None:
    as_admin = secured.kafka()
    settings = KafkaSettings(
        kafka_bootstrap=stack.kafka,
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username=as_admin.username,
        kafka_sasl_password=as_admin.password,
        kafka_ca_file=as_admin.ca_file,
    )
    users, access = Users(settings), load_access()
    drifted = {"analytics": Access((*access["analytics"].writes, "sangathan.members"), (), "analytics")}
    users.apply(users.compare(drifted, {}))
    await publish(stack, secured.kafka("analytics"), "sangathan.members")  # the grant takes effect

    planned = await said(stack, secured, "infra.kafka", "acls", "--bootstrap", stack.kafka, "--dry-run")
    assert "would revoke user:analytics: allow write topic sangathan.members (literal)" in planned
    assert planned.count("would grant user:analytics: allow read topic") == 3
    await said(stack, secured, "infra.kafka", "acls", "--bootstrap", stack.kafka)
    assert not users.compare(access, {}).describe()
    with pytest.raises(PermissionError, match="topic_denied"):
        await publish(stack, secured.kafka("analytics"), "sangathan.members")


@pytest.mark.parametrize("service", ["members", "groups"])
async def test_a_service_dumps_and_restores_itself_with_its_own_rights(
    stack: LocalStack, secured: Secured, tmp_path: Path, service: str
) -> None:
    new = f"{service}2"
    dump, anew = str(tmp_path / "dump"), ("--database", new, "--group", new)
    users = ("infra.mongo", "users", "--secrets", str(secured.secrets))
    await said(stack, secured, *users, "--also", f"{service}={new}")
    steps = (
        (("dump", dump), 0),
        (("restore", dump, *anew), 0),
        (("rebuild", *anew, "--resume"), ONLY_RESTORED),  # because the service is running
    )
    for words, expected in steps:
        status, text = await run(stack, service, *words)
        assert status == expected, text
    await said(stack, secured, *users)


async def said(stack: LocalStack, secured: Secured, *command: str) -> str:
    """Output of an operator's command, run as the administrator of both stores."""
    environment = {
        "SANGATHAN_SECRETS_DIR": str(secured.secrets / "admin"),
        "SANGATHAN_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "SANGATHAN_KAFKA_SASL_USERNAME": "admin",
        "SANGATHAN_KAFKA_CA_FILE": str(secured.ca),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def publish(stack: LocalStack, security: Security, topic: str) -> None:
    async with asyncio.timeout(30):
        producer = await as_(stack, security).producer()
        try:
            if refused := await producer.publish([Message(topic, b"key", b"value", ())]):
                raise PermissionError(refused[0].value)
        finally:
            await producer.stop()


async def fetch(stack: LocalStack, security: Security, group: str, topic: str) -> int:
    """The number of records fetched, waiting up to 30 s."""
    async with asyncio.timeout(30):
        consumer = await as_(stack, security).consumer(group, [topic])
        try:
            while not (records := await consumer.fetch(10, 0.5)):
                pass
            return len(records)
        finally:
            await consumer.stop()


async def said_until(environment: dict[str, str], log: Path, word: str) -> str:
    """The log of groups with this environment until it contains `word`, for 40 s at most."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SANGATHAN_")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.groups", env=inherited | environment, stdout=output, stderr=output
        )
    try:
        for _ in range(200):
            if word in tail(log, 1000):
                break
            await asyncio.sleep(0.2)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    return tail(log, 1000)


STORES = {"topics", "replicas", "replica set", "migrations", "indexes", "vault keys", "certificates"}
"""Findings of the doctor about the stores; other tests here leave dead letters, which it also reports."""


async def test_the_doctor_checks_all_as_administrator_and_reports_what_a_service_may_not_read(
    stack: LocalStack, secured: Secured
) -> None:
    visit = await doctor(stack, **secured.environment("admin"))
    assert visit.areas("well") >= STORES, visit.wrong()
    assert not visit.areas("blind")
    assert "oplog" in visit.areas("well") | visit.areas("skipped")

    visit = await doctor(stack, **secured.environment("groups"))
    assert visit.code
    assert visit.areas("blind") >= {"topics, replicas", "replica set", "indexes"}
    assert not visit.areas("wrong") & STORES
    own = [f["said"] for f in visit.findings if f["area"] == "indexes" and f["verdict"] == "well"]
    assert own == ["groups has all"]


def admit_doctor(stack: LocalStack, secured: Secured) -> dict[str, str]:
    """Create a user with the rights that services/shared/README.md lists, and return its settings; blocks."""
    everything = ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, "User:doctor", "*"
    rights = [
        AclBinding(*everything, operation, AclPermissionType.ALLOW)
        for operation in (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)
    ]
    admin = secured.kafka()
    settings = KafkaSettings(
        kafka_bootstrap=stack.kafka,
        kafka_security_protocol=admin.protocol,
        kafka_sasl_username=admin.username,
        kafka_sasl_password=admin.password,
        kafka_ca_file=admin.ca_file,
    )
    Users(settings).apply(Changes(grant=rights, revoke=[], passwords={"doctor": "well"}))
    roles = [{"role": "read", "db": service} for service in SERVICES]
    with MongoClient[dict[str, Any]](secured.mongo_uri()) as client:
        roles.append({"role": "clusterMonitor", "db": "admin"})
        client.admin.command("createUser", "doctor", pwd="well", roles=roles)
    own = {name: value for name, value in secured.environment("doctor").items() if name != "SECRETS_DIR"}
    return {
        **own,  # it has no directory of secrets
        "KAFKA_SASL_PASSWORD": "well",
        "MONGO_URI": secured.mongo_uri().replace(f"admin:{secured.mongo_password}@", "doctor:well@"),
    }


async def test_the_documented_rights_suffice_for_the_doctor(stack: LocalStack, secured: Secured) -> None:
    visit = await doctor(stack, **await asyncio.to_thread(admit_doctor, stack, secured))
    assert visit.areas("well") >= STORES, visit.wrong()
    assert not visit.areas("blind")
    assert "oplog" in visit.areas("well") | visit.areas("skipped")
