"""Settings of connections to the stores: insecure combinations are refused, and secrets are not shown."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.groups.__main__ import cli
from services.groups.settings import GroupsSettings
from services.members.settings import MembersSettings
from services.shared.config.kafka_security import Security
from services.shared.config.settings import ServiceSettings, unknown_variables

ROOT = Path(__file__).parents[2]
PASSWORD = {"kafka_sasl_username": "groups", "kafka_sasl_password": "hunter2-hunter2"}


def settings(**values: Any) -> ServiceSettings:
    return ServiceSettings(**{"service": "groups", **values})


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "SASL_SSL needs kafka_sasl_username and"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "groups"}, "SASL_SSL needs"),
        (PASSWORD, "PLAINTEXT has no use for kafka_sasl_"),
        ({**PASSWORD, "kafka_security_protocol": "SSL"}, "SSL has no use for kafka_sasl_"),
        ({"kafka_ca_file": __file__}, "PLAINTEXT has no use for kafka_[*]_file"),
        (
            {"kafka_security_protocol": "SSL", "kafka_key_file": __file__},
            "kafka_key_file needs kafka_cert_file",
        ),
        ({"kafka_security_protocol": "SSL", "kafka_ca_file": "/nowhere.pem"}, "does not point to a file"),
        ({"kafka_security_protocol": "TLS"}, "Input should be 'PLAINTEXT', 'SSL'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, fault):
    with pytest.raises(ValidationError, match=fault) as refused:
        settings(**values)
    assert "hunter2" not in str(refused.value)


def test_secrets_are_read_from_files_and_not_shown(tmp_path, monkeypatch):
    (tmp_path / "sangathan_kafka_sasl_password").write_text("hunter2-hunter2\n")
    (tmp_path / "sangathan_mongo_uri").write_text("mongodb://groups:hunter3@mongo/?tls=true")
    monkeypatch.setenv("SANGATHAN_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("SANGATHAN_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("SANGATHAN_KAFKA_SASL_USERNAME", "groups")
    read = ServiceSettings.load(service="groups")
    assert (read.kafka_sasl_password, read.mongo_uri[:17]) == ("hunter2-hunter2", "mongodb://groups:")
    assert "hunter" not in repr(read) + str(read) + repr(read.kafka_security)
    assert read.kafka_security.options() == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "groups",
        "sasl_plain_password": "hunter2-hunter2",
    }


def test_tls_checks_the_name_and_the_authority_of_the_broker():
    context = Security("SSL").options()["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


KEY = base64.b64encode(bytes(96)).decode()
MASTER_KEYS = json.dumps({"test": KEY})


def test_a_service_says_in_one_line_what_is_wrong_with_its_settings(monkeypatch):
    monkeypatch.setenv("SANGATHAN_KAFKA_SASL_PASSWORD", "hunter2-hunter2")
    monkeypatch.setenv("SANGATHAN_MASTER_KEYS", MASTER_KEYS)
    with pytest.raises(SystemExit) as refused:
        cli([])
    assert str(refused.value) == (
        "error: settings: Value error, PLAINTEXT has no use for kafka_sasl_*: "
        "set kafka_security_protocol=SASL_SSL"
    )


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("GROUP_CAPACITY", "-4", "group_capacity: Input should be greater than or equal to 1"),
        ("GROUP_CAPACITY", "0", "group_capacity: Input should be greater than or equal to 1"),
        (
            "GROUP_CAPACITY",
            "9223372036854775707",
            "group_capacity: Input should be less than or equal to 100000",
        ),
        ("WAITING_ROOM_SECONDS", "0", "waiting_room_seconds: Input should be greater than or equal to 0.01"),
        ("STOP_SECONDS", "inf", "stop_seconds: Input should be a finite number"),
        ("WAITING_ROOM_SECONDS", "nan", "waiting_room_seconds: Input should be a finite number"),
        ("HTTP_PORT", "99999", "http_port: Input should be less than or equal to 65535"),
        ("CONSUMER_MAX_BATCH", "0", "consumer_max_batch: Input should be greater than or equal to 1"),
        ("SECRETS_DIR", "/nowhere", "/nowhere: SANGATHAN_SECRETS_DIR names no directory"),
    ],
)
def test_a_number_out_of_bounds_is_told_in_one_line(monkeypatch, variable, value, fault):
    monkeypatch.setenv("SANGATHAN_MASTER_KEYS", MASTER_KEYS)
    monkeypatch.setenv(f"SANGATHAN_{variable}", value)
    with pytest.raises(SystemExit) as refused:
        cli([])
    assert str(refused.value) == f"error: settings: {fault}"


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (b"{", 'error parsing value for field "master_keys"'),
        (b"hunter2", 'error parsing value for field "master_keys"'),
        (b"\xff\xfe", 'error getting value for field "master_keys"'),
        (b"[]", "master_keys: Input should be a valid dictionary"),
        (b"{}", "must name at least one key, each of 96 bytes"),
        (b'{"a": "hunter2!"}', "master_keys"),
        (json.dumps({"a-1": KEY, "a_1": KEY}).encode(), "names of master keys must differ"),
    ],
)
def test_malformed_master_keys_are_told_in_one_line_without_them(tmp_path, monkeypatch, keys, fault):
    (tmp_path / "sangathan_master_keys").write_bytes(keys)
    monkeypatch.setenv("SANGATHAN_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("SANGATHAN_BLIND_INDEX_KEY", base64.b64encode(bytes(32)).decode())
    with pytest.raises(SystemExit, match=r"^error: settings: ") as refused:
        MembersSettings.load()
    said = str(refused.value)
    assert fault in said
    assert "\n" not in said
    assert "hunter2" not in said


def test_a_mistyped_variable_is_told_with_the_one_it_resembles(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SANGATHAN_")]:
        monkeypatch.delenv(name)
    for name in (
        "GROUP_CAPACTY",
        "FOO",
        "TOKEN",
        "SECRETS_DIR",
        "LOCAL_PORTS",
        "MEMBERS_URL",
        "MEMBRS_URL",
        "GROUP_CAPACITY",
    ):
        monkeypatch.setenv(f"SANGATHAN_{name}", "1")
    assert unknown_variables(GroupsSettings.model_fields) == {
        "SANGATHAN_FOO": None,
        "SANGATHAN_GROUP_CAPACTY": "SANGATHAN_GROUP_CAPACITY",
        "SANGATHAN_MEMBRS_URL": "SANGATHAN_MEMBERS_URL",
    }


def test_a_service_logs_a_mistyped_variable_when_it_starts():
    environment = {"PATH": os.environ["PATH"], "SANGATHAN_GROUP_CAPACTY": "7", "SANGATHAN_HTTP_PORT": "0"}
    environment["SANGATHAN_MASTER_KEYS"] = MASTER_KEYS
    command = [sys.executable, "-m", "services.groups"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout
            said = json.loads(service.stdout.readline())
        finally:
            service.kill()
    assert (said["event"], said["level"]) == ("settings.unknown", "warning")
    assert (said["variable"], said["did_you_mean"]) == ("SANGATHAN_GROUP_CAPACTY", "SANGATHAN_GROUP_CAPACITY")
