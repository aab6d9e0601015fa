#!/bin/sh
# Builds all fuzz targets and runs each for SECONDS (default 600), two at a time. Prints a table; exits 1 on a finding.
#   fuzz/run.sh [SECONDS] [TARGET...]
# Needs a nightly toolchain and cargo-fuzz (cargo install cargo-fuzz --version 0.13.2 --locked).
# Limits are those of docs/reliability.md: one second and 256 MiB for each input. FUZZ_JOBS and FUZZ_TIMEOUT change
# how many run at once and the one second, for machines that are busy with other things.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
[ $# -gt 0 ] && shift
# good examples to begin with, made by the same code that the tests of the decoders use
[ -d fuzz/seeds ] || cargo test --locked --quiet --test decoders -- --ignored write_the_seeds >&2
cargo +nightly fuzz build >&2
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
bin=fuzz/target/$host/release
[ $# -gt 0 ] || set -- $(cargo +nightly fuzz list)
logs=fuzz/artifacts/logs
mkdir -p "$logs"

one() {
    target=$1
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    # libFuzzer writes what it finds into the first directory only; -max_len leaves room for whole small packs.
    # AddressSanitizer's quarantine of freed memory would count against the limit.
    status=0
    ASAN_OPTIONS=quarantine_size_mb=8:detect_leaks=0 "$bin/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" \
        -max_total_time="$seconds" -timeout="${FUZZ_TIMEOUT:-1}" -rss_limit_mb=256 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" >"$logs/$target.log" 2>&1 || status=$?
    echo "$status" >"$logs/$target.status"
}

running=0
for target in "$@"; do
    one "$target" &
    running=$((running + 1))
    if [ "$running" -ge "${FUZZ_JOBS:-2}" ]; then
        wait
        running=0
    fi
done
wait

found=0
printf '%-14s %12s %8s %9s  %s\n' target executions seconds 'peak MiB' findings
for target in "$@"; do
    log=$logs/$target.log
    number() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
    took=$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$log")
    finding=none
    if [ "$(cat "$logs/$target.status")" != 0 ]; then
        found=1
        finding=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
        finding=${finding:-"failed, see $log"}
    fi
    printf '%-14s %12s %8s %9s  %s\n' "$target" "$(number number_of_executed_units)" "${took:--}" "$(number peak_rss_mb)" "$finding"
done
exit "$found"
