#!/usr/bin/env bash
# Builds each overlay and validates it against the API schemas of Kubernetes, Strimzi, KEDA and the Prometheus
# operator; then breaks one field of each and expects the validator to find it.
# Needs Python, PyPI, Maven (Java 17), Go, and kubectl or kustomize or Go to build it.
# Exit 0 and "NOT TESTED" when a tool or schema cannot be had here, 1 when a manifest is wrong.
set -euo pipefail
cd "$(dirname "$0")"

kubernetes=1.34.0
kustomize=v5.7.1
build=../../build/k8s
mkdir -p "$build"
build=$(cd "$build" && pwd)

missing() { echo "NOT TESTED: infra/k8s against the API schemas: $*"; exit 0; }
quietly() { "$@" >"$build/log" 2>&1; }

[ -x "$build/venv/bin/python" ] || python3 -m venv "$build/venv"
quietly "$build/venv/bin/pip" install --disable-pip-version-check --require-hashes -r schemas/requirements.lock ||
  missing "the schemas of Kubernetes cannot be installed (PyPI)"

if command -v kubectl >/dev/null; then render() { kubectl kustomize "$1"; }
elif command -v kustomize >/dev/null; then render() { kustomize build "$1"; }
elif command -v go >/dev/null && quietly env GOBIN="$build/bin" go install "sigs.k8s.io/kustomize/kustomize/v5@$kustomize"; then
  render() { "$build/bin/kustomize" build "$1"; }
else missing "there is no kubectl, no kustomize and no Go to build it with"; fi

definitions=()
module() { # module PATH FILE...: resource definitions of a Go module
  local directory
  directory=$(cd schemas && GOFLAGS=-mod=mod go mod download -json "$1" 2>"$build/log" | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
  [ -n "$directory" ] || return 1
  for file in "${@:2}"; do definitions+=("$directory/$file"); done
}
command -v go >/dev/null || missing "there is no Go to fetch KEDA's definitions with"
module github.com/kedacore/keda/v2 config/crd/bases/keda.sh_{scaledobjects,triggerauthentications}.yaml ||
  missing "KEDA's definitions cannot be fetched"
module github.com/prometheus-operator/prometheus-operator \
    example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,prometheusrules}.yaml ||
    missing "the Prometheus operator's definitions cannot be fetched"

{ command -v mvn && command -v java; } >/dev/null || missing "there is no Maven to fetch Strimzi's definitions with"
quietly mvn -q -B -f schemas/pom.xml dependency:copy-dependencies -DoutputDirectory="$build/strimzi" ||
  missing "Strimzi's definitions cannot be fetched"
api=io.strimzi.api.kafka.model
quietly java -cp "$build/strimzi/*" io.strimzi.crdgenerator.CrdGenerator --yaml --target-kube 1.25+ --crd-api-version v1 \
  "$api.topic.KafkaTopic=$build/topic.yaml" "$api.user.KafkaUser=$build/user.yaml"
definitions+=("$build/topic.yaml" "$build/user.yaml")

valid() { "$build/venv/bin/python" validate.py "$kubernetes" "${definitions[@]}"; }
for overlay in overlays/*/; do
  render "$overlay" >"$build/manifests.yaml"
  if answer=$(valid <"$build/manifests.yaml"); then echo "check: $overlay: $answer"; else echo "$answer"; exit 1; fi
done

# Prove that the check can fail: break a field of each schema's owner.
for wrong in readOnlyRootFilesystem:/readOnlyRootFileSystem: partitions:/partition: patternType:/pattern: minReplicaCount:/minimum: \
  secretTargetRef:/secretRef: podMetricsEndpoints:/endpoints: expr:/expression: maxReplicas:/most: 'kind: PodDisruptionBudget/kind: Budget'; do
  sed "s/$wrong/" "$build/manifests.yaml" >"$build/wrong.yaml"
  if cmp -s "$build/manifests.yaml" "$build/wrong.yaml"; then echo "check: nothing to break: $wrong"; exit 1; fi
  if valid <"$build/wrong.yaml" >"$build/log"; then echo "check: not found: $wrong"; exit 1; fi
done
echo "check: the manifests are sound, and a wrong field is found"
