"""`python -m services.shared.ops`: the operator's command, under the name that runbooks and cron jobs use."""

from __future__ import annotations

from services.shared.operations.cli.app import app

if __name__ == "__main__":
    app()
