"""`python -m services.analytics` serves; `--help` lists what else it does."""

from __future__ import annotations

from services.analytics.app import build
from services.analytics.recovery.rebuild_plan import plan
from services.analytics.settings import AnalyticsSettings
from services.shared.operations.commands import commands

cli = commands(AnalyticsSettings.load, build, plan=plan)

if __name__ == "__main__":
    cli()
