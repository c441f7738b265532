"""The manifests match the services; infra/k8s/check.sh checks them against the API schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.composed import composed_services
from infra.generate import BASE, BY_PROCESSOR
from infra.kafka.topics import load_topics
from infra.local.services import SERVICES
from tests.unit.test_rules import RULES

COMPOSED = composed_services()


def manifests(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((BASE / file).read_text()))


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    containers: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    [only] = containers
    return only


def common() -> dict[str, str]:
    [generator] = yaml.safe_load((BASE / "kustomization.yaml").read_text())["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generator["literals"])


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_a_setting_of_the_service(service):
    deployment = manifests(f"{service}.yaml")[0]
    fields = type(COMPOSED[service].runtime.settings).model_fields
    given = {*common(), *(variable["name"] for variable in container(deployment)["env"])}
    known = {f"SANGATHAN_{name.upper()}" for name in fields} | {"SANGATHAN_SECRETS_DIR"}
    assert given <= known
    required = {f"SANGATHAN_{name.upper()}" for name, field in fields.items() if field.is_required()}
    by_file = {"SANGATHAN_MASTER_KEYS", "SANGATHAN_BLIND_INDEX_KEY"}
    assert required <= given | by_file


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_its_files_where_its_settings_say(service):
    deployment = manifests(f"{service}.yaml")[0]
    [secrets] = deployment["spec"]["template"]["spec"]["volumes"]
    paths = {
        item["path"]
        for source in secrets["projected"]["sources"]
        for item in source.get("secret", {}).get("items", ())
    }
    assert paths == {"sangathan_kafka_sasl_password", "kafka-ca.crt"}
    [patch] = manifests("deployment.yaml")
    mounts = {mount["name"]: mount["mountPath"] for mount in container(patch)["volumeMounts"]}
    assert common()["SANGATHAN_SECRETS_DIR"] == mounts["secrets"]
    assert common()["SANGATHAN_KAFKA_CA_FILE"] == f"{mounts['secrets']}/kafka-ca.crt"
    assert common()["SANGATHAN_JWKS"].startswith(mounts["secrets"])


def test_a_pod_has_longer_to_stop_than_its_service_takes():
    [patch] = manifests("deployment.yaml")
    pod = patch["spec"]["template"]["spec"]
    drain = float(common()["SANGATHAN_DRAIN_SECONDS"])
    assert drain >= 5  # the time that kube-proxy and ingresses need to notice
    seconds = max(service.runtime.settings.stop_seconds for service in COMPOSED.values())
    assert pod["terminationGracePeriodSeconds"] > drain + seconds + 4  # uvicorn's own two, and closing


def test_probes_request_existing_routes():
    [patch] = manifests("deployment.yaml")
    for name, path in {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }.items():
        assert container(patch)[name]["httpGet"]["path"] == path
        for each in COMPOSED.values():
            assert path in {getattr(route, "path", "") for route in each.app.routes}


def test_no_more_consumers_are_made_than_there_are_partitions():
    partitions = {topic.name: topic.partitions for topic in load_topics(3)}
    scaled = {each["metadata"]["name"]: each["spec"] for each in manifests("scaling.yaml")}
    assert set(scaled) == {name for name, service in COMPOSED.items() if service.consumer} - BY_PROCESSOR
    for spec in scaled.values():
        topics = [trigger["metadata"]["topic"] for trigger in spec["triggers"]]
        assert spec["maxReplicaCount"] <= max(partitions[topic] for topic in topics)
    logins = {each["metadata"]["name"] for each in manifests("autoscaling.yaml") if "Trigger" in each["kind"]}
    assert logins == set(scaled)


def test_every_file_of_the_base_is_used():
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    used = {*listed["resources"], *(patch["path"] for patch in listed["patches"]), "kustomization.yaml"}
    assert used == {Path(file).name for file in BASE.glob("*.yaml")}


def test_scraped_series_have_the_labels_that_rules_use():
    [monitor] = [each for each in manifests("monitoring.yaml") if each["kind"] == "PodMonitor"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    made = {each["targetLabel"]: each for each in endpoint["relabelings"]}
    assert made["job"] == {"targetLabel": "job", "replacement": "sangathan"}
    assert made["service"]["sourceLabels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_name"]
    for service in SERVICES:
        labels = manifests(f"{service}.yaml")[0]["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == service
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_every_prometheus_rule_is_in_the_operators_manifest():
    [manifest] = manifests("alerts.yaml")
    assert [rule for group in manifest["spec"]["groups"] for rule in group["rules"]] == RULES
    names = [group["name"] for group in manifest["spec"]["groups"]]
    assert len(names) == len(set(names))  # the operator refuses two of the same name


def test_no_pod_is_root_or_writes_its_image_and_pods_spread_over_nodes_and_zones():
    [patch] = manifests("deployment.yaml")
    pod, rights = patch["spec"]["template"]["spec"], container(patch)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    assert (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"]) == (False, True)
    assert rights["capabilities"] == {"drop": ["ALL"]}
    keys = {spread["topologyKey"] for spread in pod["topologySpreadConstraints"]}
    assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_drain_of_nodes_leaves_one_of_each_service(service):
    [budget] = [m for m in manifests(f"{service}.yaml") if m["kind"] == "PodDisruptionBudget"]
    deployment = manifests(f"{service}.yaml")[0]
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert budget["spec"].get("maxUnavailable") == 1 or budget["spec"].get("minAvailable", 0) >= 1


NAME = "app.kubernetes.io/name"


def named(selector: dict[str, Any] | None) -> set[str]:
    """The services that a pod selector names."""
    by_label = (selector or {}).get("matchLabels", {})
    if by_label == {"app.kubernetes.io/part-of": "sangathan"}:
        return set(SERVICES)
    listed = [e["values"] for e in (selector or {}).get("matchExpressions", ()) if e["key"] == NAME]
    return {by_label.get(NAME), *(name for values in listed for name in values)} & set(SERVICES)


def test_the_network_allows_only_calls_configured_in_settings():
    policies = {m["metadata"]["name"]: m["spec"] for m in manifests("network.yaml")}
    everybody = {"matchLabels": {"app.kubernetes.io/part-of": "sangathan"}}
    shut = {"podSelector": everybody, "policyTypes": ["Ingress", "Egress"]}
    assert policies["sangathan-default-deny"] == shut
    out: set[tuple[str, str]] = set()
    into: set[tuple[str, str]] = set()
    outside: set[tuple[str, str]] = set()
    for policy in policies.values():
        for direction, end, edges in (("egress", "to", out), ("ingress", "from", into)):
            for rule in policy.get(direction, ()):
                assert rule["ports"], "any port"
                assert rule[end], "anybody"
                for peer in rule[end]:
                    assert set(peer) <= {"podSelector", "namespaceSelector"}
                    edges |= {
                        (us, them)
                        for us in named(policy["podSelector"])
                        for them in named(peer.get("podSelector"))
                    }
                    if "namespaceSelector" in peer:
                        outside.add((direction, *peer["namespaceSelector"]["matchLabels"].values()))
    known = {
        (service, peer)
        for service in SERVICES
        for peer in SERVICES
        if f"{peer}_url" in type(COMPOSED[service].runtime.settings).model_fields
    }
    assert out == known == {(them, us) for us, them in into}
    assert outside == {("egress", "kube-system"), ("ingress", "ingress"), ("ingress", "monitoring")}
