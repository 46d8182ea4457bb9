#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licences, duplicates, sources, and known advisories. Skips
# the advisories, and says so, if their database cannot be reached; ADVISORIES=required fails instead.
# The dependencies of the fuzzer are not checked, because no program contains them.
set -euo pipefail
. "$(dirname "$0")/guards.sh"
cd "$root"

cargo deny --locked check --hide-inclusion-graph licenses bans sources

if cargo deny fetch db > /dev/null 2>&1; then
    cargo deny --locked check --hide-inclusion-graph advisories
elif [ "${ADVISORIES:-}" = required ]; then
    echo "FAILED: https://github.com/RustSec/advisory-db cannot be reached"
    exit 1
else
    echo "advisories SKIPPED: https://github.com/RustSec/advisory-db cannot be reached from here"
fi
