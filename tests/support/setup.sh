# SPDX-License-Identifier: MIT OR Apache-2.0
# What ./tests/run and ./stress/run share: install what is missing, configure, build.
# Sourced by bash; sets `root` to the top of the checkout.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# What the library itself needs.
library_packages="gcc libc6-dev cmake ninja-build pkg-config liburcu-dev libck-dev"

installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

# need PACKAGE…: install those that are missing, by apt, without questions.
need() {
    local missing=() package
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "missing: ${missing[*]}; neither root nor sudo to install them" >&2
            exit 3
        }
        as_root=(sudo)
    fi
    echo "installing ${missing[*]}" >&2
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build DIRECTORY CMAKE-ARGUMENT…: configure and build below build/; quiet unless it fails.
# `targets` holds what is to be built, if not everything.
build() {
    local directory=$root/build/$1 log
    shift
    mkdir -p "$directory"
    log=$directory/build.log
    if ! { cmake -S "$root" -B "$directory" -G Ninja "$@" && ninja -C "$directory" ${targets:-}; } >"$log" 2>&1
    then
        cat "$log" >&2
        exit 3
    fi
}
