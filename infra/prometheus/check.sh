#!/usr/bin/env bash
# The alerting rules: whether Prometheus and Alertmanager take them, and whether each alert fires and is silent when it should.
# promtool and amtool are used where they are (Debian: prometheus, prometheus-alertmanager); their absence is said.
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
