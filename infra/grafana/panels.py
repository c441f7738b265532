"""Building blocks of the panels. Every query goes to the one provisioned Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from grafana_foundation_sdk.builders import bargauge, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import dashboard as models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="sangathan-prometheus")
"""Set in provisioning/datasources."""
WINDOW = "$__rate_interval"
HEIGHT = 7
COLUMNS = 24

Panel: TypeAlias = timeseries.Panel | stat.Panel | bargauge.Panel
Rows: TypeAlias = Mapping[str, Sequence[Panel]]


class Query(NamedTuple):
    """A PromQL expression, and the legend of each of its series."""

    expression: str
    legend: str = ""


def rate(metric: str, by: str = "", where: str = "") -> str:
    """A counter's rate per second; 0 while it has no series, as with a label value that has never
    occurred."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[{WINDOW}])) or on() vector(0)"


def quantile(q: float, histogram: str, by: str = "", where: str = "") -> str:
    """A histogram's quantile. NaN while nothing is observed, which Grafana shows as a gap."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{{where}}}[{WINDOW}])))"


def percentiles(histogram: str, where: str = "") -> list[Query]:
    """The median and the 99th percentile."""
    return [Query(quantile(q, histogram, where=where), f"p{q * 100:.0f}") for q in (0.5, 0.99)]


def lines(title: str, unit: str, *queries: Query, about: str = "") -> timeseries.Panel:
    panel = timeseries.Panel().title(title).unit(unit).min(0).fill_opacity(10).description(about)
    for target in _targets(queries):
        panel = panel.with_target(target)
    return panel.datasource(SOURCE).height(HEIGHT)


def figure(title: str, unit: str, query: Query, about: str = "") -> stat.Panel:
    """One number, current value."""
    [target] = _targets([query])
    panel = stat.Panel().title(title).unit(unit).description(about).with_target(target.instant())
    return panel.datasource(SOURCE).height(HEIGHT)


def bars(title: str, unit: str, query: Query, about: str = "") -> bargauge.Panel:
    """A bar for each series, current value."""
    [target] = _targets([query])
    panel = bargauge.Panel().title(title).unit(unit).min(0).description(about).with_target(target.instant())
    return panel.datasource(SOURCE).height(2 * HEIGHT)


def board(uid: str, title: str, about: str, rows: Rows) -> models.Dashboard:
    """A dashboard of these rows; each row spans the screen whatever its number of panels."""
    built = dashboard.Dashboard(title).uid(uid).description(about).tags(["sangathan"])
    built = built.time("now-1h", "now").refresh("10s").timezone("browser").readonly()
    number = 0
    for name, panels in rows.items():
        number += 1
        built = built.with_row(dashboard.Row(name).id(number))
        for panel in panels:
            number += 1
            built = built.with_panel(panel.id(number).span(COLUMNS // len(panels)))
    return built.build()


def _targets(queries: Sequence[Query]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + number))
        .datasource(SOURCE)
        .expr(query.expression)
        .legend_format(query.legend)
        # Only percentiles show exemplars, the points that link to a trace.
        .exemplar("histogram_quantile" in query.expression)
        for number, query in enumerate(queries)
    ]
