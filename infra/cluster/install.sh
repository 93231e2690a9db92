#!/usr/bin/env bash
# Installs agr on this machine from the checkout that this script is in, at the exact versions of constraints.txt, into a
# venv of its own. Calling it again installs nothing unless the versions changed; changed code counts at once.
#
#   infra/cluster/install.sh            AGR_VENV: where the venv lies, default ~/.agr-venv
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${AGR_VENV:-$HOME/.agr-venv}

python() { # the path of a Python 3.11 with venv
    local uv
    for uv in uv "$HOME/.local/bin/uv"; do # SkyPilot's images bring it
        command -v "$uv" > /dev/null || continue
        "$uv" python find 3.11 2> /dev/null || { "$uv" python install --quiet 3.11 && "$uv" python find 3.11; }
        return
    done
    if command -v conda > /dev/null; then
        [[ -x $venv.conda/bin/python ]] || conda create --quiet --yes --prefix "$venv.conda" python=3.11 > /dev/null
        echo "$venv.conda/bin/python"
        return
    fi
    echo "install: this machine has no Python 3.11, no uv and no conda; install one (Debian 12: apt-get install python3.11-venv)." >&2
    return 1
}

wanted=$(cat "$root/pyproject.toml" "$root/constraints.txt" | sha256sum)
if [[ -f $venv/.installed && $(< "$venv/.installed") == "$wanted" ]]; then
    exit 0
fi
found=$(command -v python3.11 || python)
"$found" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --constraint "$root/constraints.txt" --editable "$root"
echo "$wanted" > "$venv/.installed"
echo "install: agr is in $venv"
