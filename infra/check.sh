#!/usr/bin/env bash
# Checks infra/ with the tools that will read it: SkyPilot's own library, a compose implementation, the compose schema,
# hadolint, shellcheck, Ray's own validation. They go into a venv of their own (build/infra-venv, 600 MB the first time),
# because SkyPilot needs an older click than we do. `make check-infra` runs it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=build/infra-venv
pins=infra/check/constraints.txt

wanted=$(sha256sum < "$pins")
if [[ ! -f $venv/.installed || $(< "$venv/.installed") != "$wanted" ]]; then
    "${PYTHON:-python3.11}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --requirement "$pins"
    echo "$wanted" > "$venv/.installed"
fi

echo "shellcheck"
git ls-files -z --cached --others --exclude-standard 'infra/*.sh' | xargs -0 "$venv/bin/shellcheck"

echo "hadolint"
"$venv/bin/hadolint" infra/docker/Dockerfile

echo "compose"
"$venv/bin/python" infra/check/compose.py

echo "SkyPilot"
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
HOME=$state "$venv/bin/python" infra/check/sky_tasks.py infra/cluster/sky/*.yaml

echo "Ray"
"${BIN:-.venv/bin}/python" infra/check/ray_up.py infra/cluster/ray-up.yaml
