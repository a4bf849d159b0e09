# SPDX-License-Identifier: MIT OR Apache-2.0
# For the rungs: sourced by bash. A rung ends with `much "…"`, which goes into the table.
. "$(dirname "${BASH_SOURCE[0]}")/../support/setup.sh"
set -euo pipefail
mkdir -p "$root/build"
test_packages="libcriterion-dev libgsl-dev libjansson-dev libglib2.0-dev liburing-dev libjs-chart.js jq
    patch mandoc python3-jsonschema"
# The suites of 15-faults.
fault_suites="faults|syscall_faults|helping|regressions|adversaries|fork|process_limits|stepping"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

much() {
    echo "= $*"
}

# suites DIRECTORY CTEST-ARGUMENT…: run ctest in a build; prints how many passed.
suites() {
    local directory=$root/build/$1
    shift
    (cd "$directory" && ctest --output-on-failure --no-tests=error -j"$(nproc)" "$@")
}

# count_passed LOG: of a ctest log.
count_passed() {
    sed -n 's/.* tests passed, .* out of \([0-9]*\)$/\1/p' "$1" | tail -n 1
}

# must_fail WHAT COMMAND…: the proof that a rung can fail. A failure is an exit status of its own,
# not a signal of the shell's and not a command that is not there.
must_fail() {
    local what=$1 status=0
    shift
    "$@" >"$root/build/must_fail.log" 2>&1 || status=$?
    [ "$status" -ne 0 ] || fail "$what: nobody has noticed"
    [ "$status" -ne 126 ] && [ "$status" -ne 127 ] || fail "$what: $* does not run"
    echo "seen: $what"
}

# defect NAME MUTANT [TARGET…]: the tests (only these targets) with a deliberate defect
# (tests/mutants), in build/defect-NAME.
defect() {
    local targets="${*:3}"
    build "defect-$1" -DCMAKE_BUILD_TYPE=Release -DEXITBUS_TESTS=ON -DEXITBUS_STRESS=OFF \
        -DEXITBUS_MUTANT="$2"
}
