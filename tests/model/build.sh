# SPDX-License-Identifier: MIT OR Apache-2.0
# Sourced by the programs here: compile the library's own sources against the model; and the tests,
# each with its bounds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/exitbus-model.XXXXXX")
trap 'rm -rf "$work"' EXIT
local='-D_Thread_local=__attribute__((section("model_local")))'
flags="-O1 -g -w -std=gnu11 -D_GNU_SOURCE -I$here/runtime/include -I$here/runtime -DEXITBUS_CHECKS
    -DEXITBUS_TEST_HOOKS -DHELP_AFTER_PAUSES=1 -DBACKOFF_PAUSES_FIRST=0
    -DREGISTRY_BUCKETS=16 -DREGISTRY_MEMBER_LISTS=4 -DREGISTRY_REGION=4 -DLOG_RETIRE_MAX=2
    -DBATCHES_KEPT=0
    -DRECLAIM_WITHOUT_EPOCH
    -DRECORDS_FIRST=1 -fmacro-prefix-map=$root/= -DORDER_THREAD_NUMBER=model_thread_number $local"
# Plain accesses, too, become calls into the explorer, which finds data races.
races="-fsanitize=thread --param tsan-instrument-func-entry-exit=0 -U__SANITIZE_THREAD__"

# TEST PREEMPTIONS STALE-ACCESSES, the quickest first. A test runs with the library as it is
# ("channel:"), or with one in which each subscription has a queue, as one-shots and those of a
# single pid have in the library as it is.
bounds="fd 1 4
fd_end 2 2
told 1 1
handle 2 2
direct 2 2
direct_fd 2 2
fd_edge 2 1
fd_publishers 1 1
fd_share 1 1
close_fd_two 2 1
fd_two_edges 1 0
fd_stop 1 0
fd_stop_receiver 1 0
epoch 3 3
epoch_fences 3 3
shared_record 3 3
ended 3 3
task_gone 2 2
task_restart 2 2
task_death 2 2
task_news 2 2
task_bind 2 2
task_reserve 2 2
task_cancel 2 1
task_signal 1 2
task_remember 1 1
records 1 1
create 1 1
meet 1 1
abandon 1 1
take 2 2
memory 2 2
nap 1 1
end 2 2
count 1 2
batch 1 4
wide 1 3
publish 1 3
helped 2 3
late_batch 2 3
slot 1 3
shared_slots 1 2
inherit 1 3
slots 1 4
stall 1 2
helped_sleep 1 3
follow 2 1
sleep 2 2
recycle 1 3
drain 2 0
close 2 2
close_fd 2 2
start 1 2
one_shot_fd 1 3
one_shot_stop 1 2
helped_stop 1 2
one_shot 1 3
wait_pid 2 1
sticky_told 2 2
sticky_count 2 2
sticky_wide 1 3
sticky_close 2 2
sticky_stop 1 2
sticky 1 1
one_shot 2 0
share 2 2
publish 2 1
stall 2 0
leave 2 2
channel:agree 2 2
channel:late_wake 1 1
channel:close_one 1 2
channel:fd 1 4
channel:fd_end 1 2
channel:fd_edge 2 0
channel:fd_share 1 1
channel:fd_publishers 1 0
channel:fd_stop 1 0
channel:fd_stop_receiver 1 0
channel:close_fd 1 2
channel:close_fd_two 1 1
channel:armed 1 0
channel:take 2 1
channel:publish 1 2
channel:follow 1 1
channel:wide 1 2
channel:batch 1 2
channel:end 1 2
channel:memory 1 2
channel:stall 1 1
channel:share 1 2
channel:sleep 2 1
channel:helped_sleep 1 1
channel:cross 1 2
channel:cascade 2 0
channel:leave 1 1
channel:born 1 0
channel:containers 1 0
channel:start 1 0
channel:close 2 1
channel:join 1 1
channel:last 1 1
channel:late 3 0"

# variant_of TEST: its library. source_of TEST: its file's name.
variant_of() {
    if [[ $1 == channel:* ]]; then echo plain; else echo queues; fi
}

source_of() {
    echo "${1#channel:}"
}

fail() {
    echo "model: $*" >&2
    exit 1
}

for source in explore graph; do
    cc -O2 -g -w -D_GNU_SOURCE -c "$here/runtime/$source.c" -o "$work/$source.o"
done

# library NAME: the library's own sources, against the model; as they are ("plain"), with a queue
# for each subscription ("queues"), or with a deliberate defect (tests/mutants).
library() {
    local source
    mkdir -p "$work/$1"
    if [ "$1" != plain ] && [ "$1" != queues ]; then
        "$root/tests/mutants/tree" "$1" "$work/$1-tree" >"$work/$1-sources"
    fi
    for source in api/bus api/error api/publish api/receive api/subscribe bus/bus bus/channel bus/core bus/deliver \
        bus/order bus/receive bus/registry bus/subscription queue/append queue/event_count \
        queue/event_fd queue/log queue/take queue/wakeup event/event event/topic memory/epoch base/barrier \
        base/fork_guard base/pin process/direct process/outcome process/process process/remember process/task \
        process/task_step; do
        cc $(flags_of "$1") $races -c "$(tree_of "$1")/lib/$source.c" -o "$work/$1/${source/\//-}.o"
    done
    cc $(flags_of "$1") -c "$here/runtime/library.c" -o "$work/$1/library.o"
}

# The tree that has a library's sources, and what its sources and tests are compiled with.
tree_of() {
    if [ -d "$work/$1-tree" ]; then echo "$work/$1-tree"; else echo "$root"; fi
}

# Channels have defects of their own. The others, and "queues", give each subscription a queue.
has_channels() {
    [[ $1 == plain || $1 == LOG_* || $1 == CHANNEL_* ]]
}

flags_of() {
    local tree
    tree=$(tree_of "$1")
    echo "$flags -fmacro-prefix-map=$tree/= -I$tree/include -I$tree/lib$(has_channels "$1" || echo " -DSUBSCRIPTION_CURSORS=0")"
}

# program LIBRARY TEST FLAG: prints its path. The test is compiled with the library's headers, so it
# has the defect, too: it may use what is inline.
program() {
    cc $(flags_of "$1") $races $3 -Dmain=model_test_main -c "$here/$2.c" -o "$work/$2.o"
    cc -no-pie -Wl,-z,muldefs "$work/$2.o" "$work/$1"/*.o "$work/explore.o" "$work/graph.o" -o "$work/$1-$2"
    echo "$work/$1-$2"
}
