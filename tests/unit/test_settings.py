"""Settings of connections to the stores: insecure combinations are refused, and secrets are not shown."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.groups.__main__ import cli
from services.shared.config.kafka_security import Security
from services.shared.config.settings import ServiceSettings

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


def test_a_service_says_in_one_line_what_is_wrong_with_its_settings(monkeypatch):
    monkeypatch.setenv("SANGATHAN_KAFKA_SASL_PASSWORD", "hunter2-hunter2")
    with pytest.raises(SystemExit) as refused:
        cli([])
    assert str(refused.value) == (
        "error: settings: Value error, PLAINTEXT has no use for kafka_sasl_*: "
        "set kafka_security_protocol=SASL_SSL"
    )
