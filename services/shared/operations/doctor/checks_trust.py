"""Checks of token keys, certificates and monitoring. Each takes facts and yields faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from services.shared.operations.doctor.expected import Expected
from services.shared.operations.doctor.facts import Certificate, Monitoring
from services.shared.operations.doctor.findings import Fault

CERTIFICATE_DAYS = 21


def token_keys(usable: int) -> Iterator[Fault]:
    if not usable:
        yield Fault("no key of the key set can verify a token", "add the issuer's signing key to the key set")


def certificates(found: Sequence[Certificate], now: datetime) -> Iterator[Fault]:
    for each in found:
        if each.fault:
            cure = (
                "renew it, or configure the authority that signed it; "
                "clients that check it can no longer connect"
            )
            yield Fault(f"the certificate of {each.where}: {each.fault}", cure)
        elif each.expires_at and (days := (each.expires_at - now).days) < CERTIFICATE_DAYS:
            yield Fault(f"the certificate of {each.where} expires in {days} days", "renew it")


def rules(watch: Monitoring, expected: Expected) -> Iterator[Fault]:
    loaded = {rule.name for rule in watch.rules}
    missing = [name for name in expected.alerts if name not in loaded]
    if missing or not loaded:
        cure = (
            "add infra/prometheus/rules/*.yml to rule_files and reload Prometheus "
            "(promtool check config shows errors)"
        )
        yield Fault(f"Prometheus has not loaded: {', '.join(missing) or 'any alerting rule'}", cure)
    for rule in watch.rules:
        if rule.fault:
            cure = "see /rules of Prometheus: while the rule fails, it does not alert"
            yield Fault(f"the rule {rule.name} is not evaluated: {rule.fault}", cure)


def targets(watch: Monitoring) -> Iterator[Fault]:
    for instance, why in watch.down.items():
        yield Fault(f"Prometheus cannot scrape {instance}: {why}", "start the target, or fix scrape_configs")


def told(watch: Monitoring) -> Iterator[Fault]:
    if not watch.alertmanagers:
        yield Fault(
            "Prometheus knows no Alertmanager: alerts fire and nobody is notified",
            "add one to `alerting` in its configuration",
        )


def alertmanager(fault: str) -> Iterator[Fault]:
    if fault:
        yield Fault(f"Alertmanager is not ready: {fault}", "start it: alerts fire and nobody is notified")
