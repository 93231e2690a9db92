#!/usr/bin/env bash
# Makes a machine that is reached by SSH a node, from your own machine: Vast.ai, a lab's workstation, anything.
#
#   remote.sh join  NODE_ENV HEAD:PORT [USER@]HOST[:SSH_PORT] [overlay.conf]
#   remote.sh leave [USER@]HOST[:SSH_PORT] [options of agr cluster leave]
#
# NODE_ENV holds the cluster token and the bucket's key (node.env.example). It travels through SSH's standard input into
# a file of mode 600, never on a command line, and `leave` removes it. No key of an account goes to the machine.
# AGR_SSH_OPTIONS: more options of ssh, such as `-i KEY`.
# overlay.conf (vast/overlay.py) brings up WireGuard first, where the machine is behind NAT; needs root there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

remote() { # DESTINATION COMMAND...: no agent, no forwarded environment
    local port=22 host=$1 options
    read -ra options <<< "${AGR_SSH_OPTIONS:-}"
    shift
    if [[ $host =~ ^(.+):([0-9]+)$ ]]; then
        host=${BASH_REMATCH[1]} port=${BASH_REMATCH[2]}
    fi
    # A machine rented a minute ago is known to no known_hosts; one whose key changed is refused.
    ssh "${options[@]}" -o StrictHostKeyChecking=accept-new -o ForwardAgent=no -o BatchMode=yes -o ConnectTimeout=15 \
        -p "$port" -- "$host" "$@"
}

join() {
    local env_file=$1 head=$2 host=$3 overlay=${4:-} options=()
    if [[ $(stat -c %a "$env_file") != 600 ]]; then
        echo "remote: $env_file must have mode 600 (chmod 600 $env_file)" >&2
        exit 2
    fi
    git -C "$root" archive HEAD | remote "$host" 'mkdir -p agr && tar -x -C agr'
    remote "$host" 'umask 077 && mkdir -p ~/.agr && cat > ~/.agr/node.env' < "$env_file"
    if [[ -n $overlay ]]; then
        remote "$host" 'umask 077 && mkdir -p /etc/wireguard && cat > /etc/wireguard/agr.conf' < "$overlay"
        # wireguard-go is what wg-quick falls back to where the kernel has no WireGuard.
        remote "$host" 'command -v wg-quick > /dev/null ||
                (apt-get -qq update && apt-get -qq install wireguard-tools wireguard-go > /dev/null);
            wg-quick down agr 2> /dev/null; wg-quick up agr'
        options=(--host "$(sed -n 's|^Address = \([0-9.]*\).*|\1|p' "$overlay")")
    fi
    remote "$host" agr/infra/cluster/install.sh
    remote "$host" "agr/infra/cluster/node.sh join $(printf '%q ' "$head" "${options[@]}")"
}

leave() {
    local host=$1
    shift
    remote "$host" "agr/infra/cluster/node.sh leave ${*@Q} &&"'
        if [ -e /etc/wireguard/agr.conf ]; then wg-quick down agr; rm -f /etc/wireguard/agr.conf; fi'
    echo "remote: $host left; if it is rented, give it back now: it costs until then"
}

case ${1:-}/$# in
    join/[45] | leave/[2-9]) "$@" ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
