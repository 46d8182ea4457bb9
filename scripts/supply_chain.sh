#!/usr/bin/env bash
# Checks what is built into this project against deny.toml: licences, duplicates, sources, and the
# known advisories where their database can be had. (The fuzzer, which is never built in, is not.)
set -euo pipefail
. "$(dirname "$0")/guards.sh"
cd "$root"

cargo deny --locked check --hide-inclusion-graph licenses bans sources

if cargo deny fetch db > /dev/null 2>&1; then
    cargo deny --locked check --hide-inclusion-graph advisories
else
    echo "advisories SKIPPED: https://github.com/RustSec/advisory-db cannot be reached from here"
fi
