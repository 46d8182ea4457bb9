#!/usr/bin/env bash
# Checks the console: types, vendored files, the signature debugger, and journeys in Chromium against `cargo dev`.
# Needs Node.js. Installs Chromium from the packages of Debian or Ubuntu if it is missing and this is root.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v node > /dev/null; then
    echo "NOT CHECKED: the console needs Node.js"
    exit 0
fi
if [ ! -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        echo "The journeys need Chromium: install it, or name it in CHROMIUM" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null
fi
# `cargo dev` would build the local system again, with the features of its package alone.
(cd ../.. && cargo build --workspace --bin dev --locked --quiet)
DEV="$(cd "${CARGO_TARGET_DIR:-../../target}" && pwd)/debug/dev"
export DEV
npm ci --silent
npm run --silent types
npm run --silent vendor
npm run --silent signatures
npm run --silent journeys
