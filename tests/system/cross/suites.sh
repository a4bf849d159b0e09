# SPDX-License-Identifier: MIT OR Apache-2.0
# Sourced by the rungs of other architectures. Left out under qemu-user: what it does not emulate
# (MADV_WIPEONFORK, so forked children are not noticed; ptrace; the status of a core dump), and
# suites whose only matter is time or memory on the machine itself.
. "$(dirname "${BASH_SOURCE[0]}")/../../proof/common.sh"

# cross DEBIAN-ARCHITECTURE GNU-PROCESSOR
cross() {
    local debian=$1 processor=$2 stress=OFF suite count=0
    [ "$debian" != arm64 ] || stress=ON
    need $library_packages $test_packages qemu-user dpkg-dev make bzip2 \
        gcc-${processor/_/-}-linux-gnu libc6-dev-$debian-cross
    "$root/tests/system/cross/sysroot" "$debian" "$root/build/sysroot-$debian"
    build "$debian" -DCMAKE_BUILD_TYPE=Release -DEXITBUS_TESTS=ON -DEXITBUS_PLAIN_RUNNER=ON \
        -DEXITBUS_STRESS=$stress -DCMAKE_TOOLCHAIN_FILE="$root/tests/system/cross/toolchain.cmake" \
        -DEXITBUS_CROSS_TRIPLET="$processor-linux-gnu" \
        -DEXITBUS_CROSS_SYSROOT="$root/build/sysroot-$debian/root"
    emulate() {
        timeout -k 5 600 "qemu-$processor" -L "/usr/$processor-linux-gnu" "$@"
    }
    for suite in topic registry order queue memory publish receive subscription regressions \
        monitor_table monitor_reliability; do
        echo "$suite"
        emulate "$root/build/$debian/tests/test-$suite"
        count=$((count + 1))
    done
    if [ "$stress" = ON ]; then
        emulate "$root/build/$debian/stress/exitbus-stress" --seconds 10 --patience 60 \
            --scenario churn,backlog,fanout,swarm,echo,misuse || [ $? -eq 4 ] # not all is checked
        emulate "$root/build/$debian/stress/exitbus-stress" --seconds 10 --history /dev/null
    fi
    build "defect-$debian" -DCMAKE_BUILD_TYPE=Release -DEXITBUS_TESTS=ON \
        -DEXITBUS_PLAIN_RUNNER=ON -DEXITBUS_STRESS=OFF -DEXITBUS_MUTANT=QUEUE_NO_LOOK_BACK \
        -DCMAKE_TOOLCHAIN_FILE="$root/tests/system/cross/toolchain.cmake" \
        -DEXITBUS_CROSS_TRIPLET="$processor-linux-gnu" \
        -DEXITBUS_CROSS_SYSROOT="$root/build/sysroot-$debian/root"
    must_fail "a late helper that does not look back" \
        emulate "$root/build/defect-$debian/tests/test-queue"
    much "$count suites$([ "$stress" = OFF ] || echo ', 20 s of stress')"
}
