"""A Prometheus that scrapes the local stack, for tests of dashboards and alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import yaml

from infra.local.binaries import find_prometheus
from infra.local.errors import LocalError
from infra.local.ports import Ports
from infra.local.processes import Child
from infra.local.services import answers, url

SCRAPE_SECONDS = 1


class Prometheus:
    """`async with Prometheus(directory, {"groups": "127.0.0.1:8002", "groups-2": ...}) as prometheus:`

    `targets`       address (host:port) by process; as in infra/prometheus/prometheus.yml each has the job
                    `sangathan` and the label `service`, which for `groups-2` is `groups`
    `rule_files`    recording and alerting rules, evaluated every second
    `alertmanager`  address (host:port) of the Alertmanager that receives the alerts

    :raises LocalError: on start, when no Prometheus is on PATH or it rejects its configuration
    """

    def __init__(
        self,
        workdir: Path,
        targets: Mapping[str, str],
        rule_files: Sequence[Path] = (),
        alertmanager: str | None = None,
    ) -> None:
        self._directory = workdir / "prometheus"
        self._config = configuration(targets, rule_files, alertmanager)
        self._port = Ports().take()
        self._child: Child | None = None
        self.url = url(self._port)
        self._http = httpx2.AsyncClient(base_url=self.url, timeout=30, trust_env=False)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it, and wait until it answers queries."""
        program = find_prometheus()
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config, sort_keys=False), encoding="utf-8")
        command = [str(program), f"--config.file={config}", f"--storage.tsdb.path={self._directory / 'data'}"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}"]
        command += ["--enable-feature=exemplar-storage"]

        async def ready() -> bool:
            return await answers(self._port, "/-/ready")

        self._child = Child(
            "prometheus", command, self._directory / "prometheus.log", ready, restart=False, ready_within=60
        )
        await self._child.start()

    async def stop(self) -> None:
        """Stop it; its data stays in `workdir`. Idempotent."""
        if self._child is not None:
            await self._child.stop()
        await self._http.aclose()

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of a PromQL expression: `[{"metric": {label: value}, "value": [seconds,
        "number"]}, ...]`.

        :raises LocalError: Prometheus refuses the expression; carries the reason
        """
        found: list[dict[str, Any]] = (await self._get("query", query=expression))["result"]
        return found

    async def alerts(self) -> list[dict[str, Any]]:
        """Pending and firing alerts: `[{"labels": {...}, "annotations": {...}, "state": "firing", ...},
        ...]`."""
        found: list[dict[str, Any]] = (await self._get("alerts"))["alerts"]
        return found

    async def targets(self) -> dict[str, str]:
        """The health (`up`, `down`, `unknown`) of each target by its address."""
        active = (await self._get("targets", state="active"))["activeTargets"]
        return {target["labels"]["instance"]: target["health"] for target in active}

    async def _get(self, what: str, **parameters: str) -> Any:
        answer = (await self._http.get(f"/api/v1/{what}", params=parameters)).json()
        if answer["status"] != "success":
            raise LocalError(f"prometheus: {answer['error']}")
        return answer["data"]


def configuration(
    targets: Mapping[str, str], rule_files: Sequence[Path] = (), alertmanager: str | None = None
) -> dict[str, Any]:
    """The content of a prometheus.yml; takes the arguments of `Prometheus`."""
    every = f"{SCRAPE_SECONDS}s"
    processes = [
        {"targets": [address], "labels": {"service": process.partition("-")[0]}}
        for process, address in targets.items()
    ]
    alerting = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]} if alertmanager else {}
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "scrape_configs": [{"job_name": "sangathan", "static_configs": processes}],
        "rule_files": [str(path.absolute()) for path in rule_files],
        "alerting": alerting,
    }
