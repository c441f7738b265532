#!/usr/bin/env bash
# Checks that Prometheus and Alertmanager accept the alerting rules and routes, and that each alert fires when
# it should and only then. Uses promtool and amtool if installed (Debian: prometheus,
# prometheus-alertmanager), and says which is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

tool() { # tool NAME ARGUMENT...
  if command -v "$1" >/dev/null; then echo "rules: $*"; "$@"
  else echo "NOT TESTED: no $1 here: $*"; fi
}

tool promtool check config infra/prometheus/prometheus.yml
tool promtool check rules infra/prometheus/rules/*.yml
tool promtool test rules infra/prometheus/tests/*.yml
tool amtool check-config infra/alertmanager/alertmanager.yml
