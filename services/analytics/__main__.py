"""`python -m services.analytics`"""

from __future__ import annotations

from services.analytics.app import build
from services.analytics.settings import AnalyticsSettings
from services.shared.kernel import serve

if __name__ == "__main__":
    serve(AnalyticsSettings.load(), build)
