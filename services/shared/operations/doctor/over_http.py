"""Facts collected over HTTP: the services' processes, Prometheus, Alertmanager."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from services.shared.clock import Clock
from services.shared.operations.doctor.access import Access
from services.shared.operations.doctor.facts import Monitoring, Process, Rule, Sample
from services.shared.operations.doctor.findings import Seen, Unseen, Verdict

SECONDS = 10.0
Faults = (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError)


def client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=SECONDS, trust_env=False)


async def processes(http: httpx2.AsyncClient, access: Access, clock: Clock) -> Seen[Sequence[Process]]:
    if not access.urls:
        cure = (
            "give --url of each process or SANGATHAN_<SERVICE>_URL, or start the local stack with `make up`"
        )
        return Unseen("no address of a service", cure, Verdict.SKIPPED)
    return await asyncio.gather(*(_process(http, service, url, clock) for service, url in access.urls))


async def _process(http: httpx2.AsyncClient, service: str, url: str, clock: Clock) -> Process:
    try:
        before = clock.now()
        ready = await http.get(f"{url}/readyz")
        skew = _skew(ready, before.timestamp(), clock.now().timestamp())
        reasons = dict(ready.json()["reasons"])
    except Faults as error:
        return Process(service or url, url, fault=type(error).__name__)
    metrics = await _metrics(http, url)
    build = metrics.get("sangathan_build_info", ()) if isinstance(metrics, Mapping) else ()
    says = build[0][0] if build else {}
    name = says.get("service") or service or url
    return Process(name, url, reasons=reasons, skew=skew, version=says.get("version", ""), metrics=metrics)


def _skew(answer: httpx2.Response, before: float, after: float) -> float:
    """Least number of seconds that the process's clock is ahead: its `Date` is cut to seconds, and was
    written between `before` and `after`."""
    theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    if theirs > after:
        return theirs - after
    return min(0.0, theirs + 1 - before)


async def _metrics(http: httpx2.AsyncClient, url: str) -> Seen[Mapping[str, Sequence[Sample]]]:
    try:
        answer = await http.get(f"{url}/metrics", headers={"Accept": "text/plain"})
        answer.raise_for_status()
        samples: dict[str, list[Sample]] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    except Faults as error:
        return Unseen(
            f"{url}/metrics: {type(error).__name__}",
            "give the internal URL of each process: the public address may block /metrics",
        )
    return samples


async def watch(http: httpx2.AsyncClient, prometheus: str) -> Seen[Monitoring]:
    if not prometheus:
        cure = "give --prometheus or SANGATHAN_PROMETHEUS_URL"
        return Unseen("no address of Prometheus", cure, Verdict.SKIPPED)
    try:
        rules, targets, managers = await asyncio.gather(
            *(_query(http, prometheus, what) for what in ("rules?type=alert", "targets", "alertmanagers"))
        )
        return Monitoring(
            rules=[_rule(rule) for group in rules["groups"] for rule in group["rules"]],
            down={
                t["labels"]["instance"]: t["lastError"]
                for t in targets["activeTargets"]
                if t["health"] == "down"
            },
            alertmanagers=[each["url"] for each in managers["activeAlertmanagers"]],
        )
    except Faults as error:
        why = f"Prometheus at {prometheus} does not answer: {type(error).__name__}"
        return Unseen(why, "start it: without it there are no alerts", Verdict.WRONG)


def _rule(rule: Mapping[str, Any]) -> Rule:
    return Rule(rule["name"], rule.get("lastError", "") or ("" if rule["health"] == "ok" else rule["health"]))


async def _query(http: httpx2.AsyncClient, prometheus: str, what: str) -> Any:
    answer = await http.get(f"{prometheus.rstrip('/')}/api/v1/{what}")
    return answer.raise_for_status().json()["data"]


async def alertmanager(http: httpx2.AsyncClient, url: str) -> Seen[str]:
    if not url:
        cure = "give --alertmanager or SANGATHAN_ALERTMANAGER_URL"
        return Unseen("no address of Alertmanager", cure, Verdict.SKIPPED)
    try:
        (await http.get(f"{url.rstrip('/')}/-/ready")).raise_for_status()
    except Faults as error:
        return type(error).__name__
    return ""
