#!/usr/bin/env bash
# Builds the program `meshproof`, unless a cache has it or it is on the search path.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if ! command -v meshproof > /dev/null; then
    # The version that Cargo.lock names, and no other.
    cargo install --locked --quiet --path "$checkout/program" --root "$state"
fi
meshproof --version
