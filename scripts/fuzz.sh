#!/usr/bin/env bash
# Fuzzes every target in turn, starting from its corpus: scripts/fuzz.sh SECONDS [TARGET…]
#
# Prints one line a target: executions, executions per second, edges covered, inputs kept. What is
# found is left in tests/fuzz/artifacts, and ends the run. New inputs go to target/fuzz-corpus, so that a
# run leaves the work tree as it was; `scripts/fuzz.sh keep [TARGET…]` adds to the corpora those that
# reach what no kept input reaches.
set -euo pipefail
. "$(dirname "$0")/guards.sh"
cd "$root"
how="${1:?how many seconds for each target, or keep}"
shift
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    mapfile -t targets < <(ls tests/fuzz/corpus)
fi
# No sanitizer, so that a stable compiler is enough; this code base forbids `unsafe`.
flags=(--sanitizer none --codegen-units 16)
# Longer inputs are tested by hand: the limits of size are far apart from each other.
longest=16384

# What is fuzzed is what is deployed, in the same versions.
cp Cargo.lock tests/fuzz/Cargo.lock
cargo fuzz build "${flags[@]}"
for target in "${targets[@]}"; do
    found="target/fuzz-corpus/$target"
    mkdir -p "$found"
    if [ "$how" = keep ]; then
        kept="target/fuzz-kept/$target"
        rm -rf "$kept" && mkdir -p "$kept"
        cargo fuzz run "${flags[@]}" "$target" "$kept" "tests/fuzz/corpus/$target" "$found" -- \
            -set_cover_merge=1 -use_counters=0 -max_len=1000 -verbosity=0
        # Those with a name were made by hand or were a finding, and stay. Of the others, which are
        # named by their hash, a hundred are enough for the tests.
        find "tests/fuzz/corpus/$target" -type f ! -name '*-*' -delete
        for input in $(ls "$kept" | grep -v -e - | head -n 100); do
            cp "$kept/$input" "tests/fuzz/corpus/$target/"
        done
        continue
    fi
    log="target/fuzz-$target.log"
    if ! cargo fuzz run "${flags[@]}" "$target" "$found" "tests/fuzz/corpus/$target" -- \
        -max_total_time="$how" -max_len="$longest" -timeout=20 -rss_limit_mb=4096 \
        -print_final_stats=1 > "$log" 2>&1; then
        tail -n 60 "$log"
        echo "$target: a finding, see tests/fuzz/artifacts/$target"
        exit 1
    fi
    awk -v target="$target" '
        /^#[0-9]+.*cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
        /stat::number_of_executed_units/ { runs = $2 }
        /stat::average_exec_per_sec/ { speed = $2 }
        /stat::new_units_added/ { new = $2 }
        END { printf "%-18s %10d runs  %7d/s  %6d edges  %5d new inputs\n", target, runs, speed, cov, new }
    ' "$log"
done
