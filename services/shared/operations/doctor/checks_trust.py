"""Checks of keys, certificates and of who watches. Each takes facts and yields faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from services.shared.operations.doctor.expected import Expected
from services.shared.operations.doctor.facts import CatchUp, Certificate
from services.shared.operations.doctor.findings import Fault

CERTIFICATE_DAYS = 21


def token_keys(usable: int) -> Iterator[Fault]:
    if not usable:
        yield Fault("no key of the key set can verify a token", "put the issuer's signing key into it")


def certificates(found: Sequence[Certificate], now: datetime) -> Iterator[Fault]:
    for each in found:
        if each.fault:
            cure = "renew it, or name the authority that signed it; clients that check it connect no more"
            yield Fault(f"the certificate of {each.where}: {each.fault}", cure)
        elif each.expires_at and (days := (each.expires_at - now).days) < CERTIFICATE_DAYS:
            yield Fault(f"the certificate of {each.where} expires in {days} days", "renew it")


def rules(watch: CatchUp, expected: Expected) -> Iterator[Fault]:
    loaded = {rule.name for rule in watch.rules}
    missing = [name for name in expected.alerts if name not in loaded]
    if missing or not loaded:
        cure = "name infra/prometheus/rules/*.yml in its rule_files and reload it (promtool check config says more)"
        yield Fault(f"Prometheus has not loaded: {', '.join(missing) or 'any alerting rule'}", cure)
    for rule in watch.rules:
        if rule.fault:
            cure = "see it at /rules of Prometheus: as long as it fails it alerts nobody"
            yield Fault(f"the rule {rule.name} is not evaluated: {rule.fault}", cure)


def targets(watch: CatchUp) -> Iterator[Fault]:
    for instance, why in watch.down.items():
        yield Fault(f"Prometheus cannot scrape {instance}: {why}", "start it, or mend scrape_configs")


def told(watch: CatchUp) -> Iterator[Fault]:
    if not watch.alertmanagers:
        yield Fault(
            "Prometheus knows no Alertmanager: alerts fire and nobody is told", "name one in `alerting`"
        )


def alertmanager(fault: str) -> Iterator[Fault]:
    if fault:
        yield Fault(f"Alertmanager is not ready: {fault}", "start it: alerts fire and nobody is told")
