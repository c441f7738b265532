"""An Alertmanager beside the local stack, for tests of alerts and their routes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import yaml

from infra.local.binaries import find_alertmanager
from infra.local.ports import HOST, Ports
from infra.local.processes import Child
from infra.local.services import answers, url


class Alertmanager:
    """`async with Alertmanager(directory, routes) as alertmanager:`; `routes` is the content of an
    alertmanager.yml.

    :raises LocalError: on start, when no Alertmanager is on PATH or it rejects its configuration
    """

    def __init__(self, workdir: Path, routes: Mapping[str, Any]) -> None:
        self._directory = workdir / "alertmanager"
        self._routes = dict(routes)
        self._port = Ports().take()
        self._child: Child | None = None
        self.address = f"{HOST}:{self._port}"

    async def __aenter__(self) -> Self:
        """Start it, and wait until it is ready."""
        program = find_alertmanager()
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "alertmanager.yml"
        config.write_text(yaml.safe_dump(self._routes, sort_keys=False), encoding="utf-8")
        command = [str(program), f"--config.file={config}", f"--storage.path={self._directory / 'data'}"]
        # No gossip: a single instance would otherwise listen on all addresses for others.
        command += [f"--web.listen-address={self.address}", "--cluster.listen-address="]

        async def ready() -> bool:
            return await answers(self._port, "/-/ready")

        log = self._directory / "alertmanager.log"
        self._child = Child("alertmanager", command, log, ready, restart=False, ready_within=60)
        await self._child.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            await self._child.stop()

    async def alerts(self) -> list[dict[str, Any]]:
        """Unresolved alerts: `[{"labels": {...}, "status": {"state": "active", "inhibitedBy": [...]}, ...},
        ...]`."""
        async with httpx2.AsyncClient(timeout=30, trust_env=False) as http:
            answer = await http.get(f"{url(self._port)}/api/v2/alerts")
            found: list[dict[str, Any]] = answer.raise_for_status().json()
            return found

    async def tell(self, *alerts: Mapping[str, str]) -> None:
        """Send alerts, given by their labels, as Prometheus would."""
        body = [{"labels": dict(labels)} for labels in alerts]
        async with httpx2.AsyncClient(timeout=30, trust_env=False) as http:
            (await http.post(f"{url(self._port)}/api/v2/alerts", json=body)).raise_for_status()
