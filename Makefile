# Everything below runs in .venv, which the first target that needs it makes from requirements.lock.
# To choose the interpreter: make PYTHON=/path/to/python3.12 ...

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
UV_VERSION := 0.13.9
SERVICES := members groups notifications analytics
KAFKA_JARS := .local/kafka-jars/.resolved
PEERS := .venv-peers
CLIENTS := .venv-clients
SUPPLY := build/supply

.PHONY: help
help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.installed ## start everything here, without Docker, and watch it at work
	@exec $(BIN)/python -m infra.local demo $(ARGS)

.PHONY: up
up: $(VENV)/.installed ## start everything here, without Docker, until Ctrl-C (ARGS="--fresh --port members=8101")
	@exec $(BIN)/python -m infra.local up $(ARGS)

.PHONY: kafka
kafka: $(VENV)/.installed $(KAFKA_JARS) ## like up, on Apache Kafka instead of the embedded broker (needs Java 17 and Maven)
	@exec $(BIN)/python -m infra.local up --broker kafka $(ARGS)

.PHONY: doctor
doctor: $(VENV)/.installed ## say what is wrong with a deployment, and the cure: the local stack's (URL="http://a http://b", ARGS="--kafka ...")
	@exec $(BIN)/python -m services.shared.ops doctor $(addprefix --url ,$(URL)) $(ARGS)

.PHONY: test
test: $(VENV)/.installed ## the tests that need nothing but this checkout (ARGS="-k placement", ARGS="-n0 --pdb")
	$(BIN)/pytest $(SPREAD) -m "not heavy and not kafka and not chaos" $(ARGS)

# Over several processes, for most tests wait more than they compute; each has a MongoDB and a broker of its own.
SPREAD := --numprocesses auto --dist loadfile

HEAVY ?= heavy and not kafka and not chaos
.PHONY: heavy
heavy: $(VENV)/.installed $(CLIENTS)/.installed ## the tests that are too slow for `make test`: whole stacks, generated requests, orderly stops
	$(BIN)/pytest $(SPREAD) -m "($(HEAVY)) and not alone" $(ARGS)
	$(BIN)/pytest -m "($(HEAVY)) and alone" $(ARGS) || [ $$? = 5 ] # 5: none of them is in this part

.PHONY: onkafka
onkafka: $(VENV)/.installed $(KAFKA_JARS) ## the integration tests and journeys on Apache Kafka, and those that need it
	SANGATHAN_LOCAL_BROKER=kafka $(BIN)/pytest $(SPREAD) -m "(integration or journey or kafka) and not chaos and not anybroker" $(ARGS)

.PHONY: chaos
chaos: $(VENV)/.installed $(KAFKA_JARS) ## every fault in turn on Apache Kafka: the report says what was lost or doubled (SEED=7)
	$(BIN)/pytest -m chaos $(ARGS)

.PHONY: hostile
hostile: $(VENV)/.installed ## what a neighbour who may write to the topics can do: memory, /livez, honest members (ARGS="--quick")
	$(BIN)/python -m tests.hostile $(ARGS)

.PHONY: rules
rules: ## check the alerting rules, their promtool tests and Alertmanager's routes (needs promtool and amtool)
	infra/prometheus/check.sh

.PHONY: alerts
alerts: $(VENV)/.installed ## five faults on the running system: each alert fires in a real Alertmanager, and resolves
	$(BIN)/pytest tests/journeys/test_alerts.py $(ARGS)

.PHONY: lint
lint: $(VENV)/.installed ## style, types, the walls between packages, and how docstrings open
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m infra.docstrings

.PHONY: docs
docs: $(VENV)/.installed ## write the generated part of docs/, the dashboards, and what the doctor expects
	$(BIN)/python docs/generate.py
	$(BIN)/python -m infra.grafana
	$(BIN)/python -m infra.generate

.PHONY: freeze
freeze: $(VENV)/.installed ## keep today's events and APIs as what this version promises (at a release, after raising the version)
	$(BIN)/python -m tests.contracts.release

.PHONY: bench
bench: $(VENV)/.installed $(KAFKA_JARS) $(PEERS)/.installed ## measure against the named baselines (ARGS="--quick", ARGS="ingest relay")
	$(BIN)/python -m tests.bench $(ARGS)

# A lock is the whole answer: every package with its hashes, no index, no path of the machine that made it. Those of the images
# hold the same versions, each only what its service needs. setuptools is in the first one to build our own package offline.
COMPILE = build/uv/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	--custom-compile-command 'make lock'
IMAGE_LOCKS := infra/docker/requirements

.PHONY: lock
lock: ## resolve requirements.lock and the images' locks anew (UPGRADE=--upgrade for newer versions)
	@python="$$($(FIND_PYTHON))"; test -x build/uv/bin/uv || "$$python" -m venv build/uv
	build/uv/bin/python -m pip install --quiet uv==$(UV_VERSION)
	echo 'setuptools>=77' | $(COMPILE) $(UPGRADE) --all-extras pyproject.toml - -o requirements.lock
	for service in $(SERVICES); do \
	  $(COMPILE) --extra $$service --extra tracing -c requirements.lock pyproject.toml -o $(IMAGE_LOCKS)/$$service.lock; \
	done
	$(COMPILE) -c requirements.lock pyproject.toml $(IMAGE_LOCKS)/topics.in -o $(IMAGE_LOCKS)/topics.lock
	$(COMPILE) tests/bench/peers.in -o tests/bench/peers.lock
	$(COMPILE) tests/journeys/clients.in -o tests/journeys/clients.lock
	$(COMPILE) infra/supply/tools.in -o infra/supply/tools.lock
	$(COMPILE) infra/k8s/schemas/requirements.in -o infra/k8s/schemas/requirements.lock
	@if grep -nE '://|^-|file:' requirements.lock $(IMAGE_LOCKS)/*.lock tests/bench/peers.lock tests/journeys/clients.lock infra/k8s/schemas/*.lock infra/supply/tools.lock; then echo 'a lock names an address' >&2; exit 1; fi

.PHONY: sbom
sbom: $(SUPPLY)/.installed ## write a bill of materials (CycloneDX) of every lock into build/sbom
	$(BIN)/python -m infra.supply sbom

.PHONY: audit
audit: $(SUPPLY)/.installed ## look for known vulnerabilities in every lock; fails when it cannot look, too
	$(BIN)/python -m infra.supply audit

.PHONY: clean
clean: ## remove what was built and what the local stack kept
	rm -rf $(VENV) $(PEERS) $(CLIENTS) .local .local-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  .import_linter_cache

# Apache Kafka's jars, 54 MB from Maven Central, as infra/kafka/pom.xml names them.
$(KAFKA_JARS): infra/kafka/pom.xml
	@command -v mvn >/dev/null || { echo 'error: Apache Kafka is fetched with Maven (Debian: apt-get install maven)' >&2; exit 1; }
	@echo "fetching Apache Kafka into $(@D)"; mkdir -p $(@D); exec 9<infra/kafka/pom.xml; flock 9; \
	if [ $@ -nt $< ]; then exit 0; fi; rm -f $(@D)/*.jar; \
	mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/$(@D)"; touch $@

# The first Python that is new enough and can make a virtual environment.
define FIND_PYTHON
for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
  then echo "$$candidate"; exit 0; fi; \
done; \
echo 'error: needs Python 3.11 or newer with its venv module (Debian: apt-get install python3 python3-venv);' \
  'found none$(if $(PYTHON), at $(PYTHON))' >&2; exit 1
endef

# Under a lock, and looked at again once it is held: two makes may run side by side.
$(VENV)/.installed: pyproject.toml requirements.lock
	@exec 9<Makefile; flock 9; \
	if [ $@ -nt pyproject.toml ] && [ $@ -nt requirements.lock ]; then exit 0; fi; \
	python="$$($(FIND_PYTHON))"; \
	echo "making $(VENV) with $$python"; \
	"$$python" -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@

# Environments whose requirements are at odds with ours: the peers of the benchmark (tests/bench/peers.in says how), the
# generator of clients (tests/journeys/clients.in), and what makes the bill of materials and the audit.
$(PEERS)/.installed: tests/bench/peers.lock
$(CLIENTS)/.installed: tests/journeys/clients.lock
$(SUPPLY)/.installed: infra/supply/tools.lock
$(PEERS)/.installed $(CLIENTS)/.installed $(SUPPLY)/.installed: | $(VENV)/.installed
	@exec 9<$<; flock 9; if [ $@ -nt $< ]; then exit 0; fi; \
	echo "making $(@D)"; $(BIN)/python -m venv $(@D); \
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<; \
	touch $@
