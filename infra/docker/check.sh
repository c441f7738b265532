#!/usr/bin/env bash
# Checks the images without Docker: lints what it can, then runs the Dockerfile's own lines in an empty
# directory, so that a package missing from a lock, or a service that imports another's code, fails here.
# Needs Python >= 3.11. Uses hadolint and docker-compose if installed, and says which is missing. Usage:
# infra/docker/check.sh [SERVICE ...]
set -euo pipefail
cd "$(dirname "$0")/../.."

dockerfile=infra/docker/service.Dockerfile
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

lint() { # lint TOOL ARGUMENT...
  if command -v "$1" >/dev/null; then echo "check: $*"; "$@" >"$scratch/lint" 2>&1 || { cat "$scratch/lint"; return 1; }
  else echo "check: skipped, no $1 here: $*"; fi
}

# The lines of one build stage, with SERVICE filled in and the image's root moved to ROOT.
stage() { # stage NAME ROOT SERVICE
  sed -n "/^FROM .* AS $1\$/,/^FROM /p" "$dockerfile" | sed -e ':a' -e '/\\$/{N;s/ *\\\n */ /;ta}' |
    grep -E '^COPY |^RUN .*/(venv|app)' | grep -v -e '--from=' | # lines that change the base image cannot run here
    sed -e "s|\${SERVICE}|$3|g" -e "s|/venv|$2/venv|g" -e "s|/app|$2/app|g"
}

carry_out() { # runs the lines on standard input
  while read -r verb rest; do
    case $verb in
      COPY) read -r source target <<<"$rest"; mkdir -p "$(dirname "$target")"; cp -R "$source" "$target" ;;
      RUN) bash -euc "${rest/#python /$python }" >"$scratch/run" 2>&1 || { cat "$scratch/run"; return 1; } ;;
    esac
  done
}

image() { # image SERVICE STAGE PACKAGE...
  echo "check: image $1"
  local root=$scratch/$1
  for part in packages common "$2"; do stage "$part" "$root" "$1" | carry_out; done
  # Import every module of the package from the image's tree alone (-I and a bare environment hide the
  # checkout).
  (cd "$root/app" && env -i "$root/venv/bin/python" -I - "${@:3}" <<'PYTHON'
import importlib, importlib.util, pkgutil, sys
sys.path.insert(0, ".")
for tool in ("pip", "setuptools", "wheel"):
    assert not importlib.util.find_spec(tool), f"{tool} is in the image"
for package in map(importlib.import_module, sys.argv[1:]):
    names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    for name in names:
        importlib.import_module(name)
    print(f"       {package.__name__}: {1 + len(names)} modules import with {len(sys.modules)} loaded")
PYTHON
  )
}

lint hadolint "$dockerfile"
lint docker-compose -f docker-compose.yml config --quiet

[ $# -gt 0 ] || set -- members groups notifications analytics topics
for service in "$@"; do
  if [ "$service" = topics ]; then image topics topics infra.kafka infra.mongo
  else image "$service" service "services.$service" services.shared.operations; fi
done
echo "check: the images are sound"
