#!/usr/bin/env bash
# Fuzzes every target in turn, starting from its seeds: scripts/fuzz.sh SECONDS [TARGET…]
#
# Prints one line a target: executions, executions per second, edges covered, new inputs. A finding is
# written to tests/fuzz/artifacts and ends the run; copy it to tests/fuzz/corpus/TARGET/found-NAME.
# New inputs grow the corpora in target/fuzz-corpus, from which the next run continues;
# `scripts/fuzz.sh minimize [TARGET…]` reduces those to the inputs that add coverage.
set -euo pipefail
. "$(dirname "$0")/guards.sh"
cd "$root"
how="${1:?usage: fuzz.sh SECONDS|minimize [TARGET…]}"
shift
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    mapfile -t targets < <(ls tests/fuzz/corpus)
fi
# Without a sanitizer a stable compiler is enough; this code base forbids `unsafe`.
flags=(--fuzz-dir tests/fuzz --sanitizer none --codegen-units 16)
# Longer inputs have tests of their own: the size limits are far apart from each other.
longest=16384

# The fuzzer uses the versions that are deployed. Cargo adds its few packages to this copy.
cp Cargo.lock tests/fuzz/Cargo.lock
if [ ${#targets[@]} = 1 ]; then
    cargo fuzz build "${flags[@]}" "${targets[0]}"
else
    cargo fuzz build "${flags[@]}"
fi
for target in "${targets[@]}"; do
    seeds="tests/fuzz/corpus/$target"
    grown="target/fuzz-corpus/$target"
    mkdir -p "$grown"
    if [ "$how" = minimize ]; then
        minimized="target/fuzz-minimized/$target"
        rm -rf "$minimized" && mkdir -p "$minimized"
        cargo fuzz run "${flags[@]}" "$target" "$minimized" "$seeds" "$grown" -- \
            -merge=1 -use_counters=0 -max_len="$longest" -verbosity=0
        rm -rf "$grown" && mv "$minimized" "$grown"
        continue
    fi
    log="target/fuzz-$target.log"
    if ! cargo fuzz run "${flags[@]}" "$target" "$grown" "$seeds" -- \
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
