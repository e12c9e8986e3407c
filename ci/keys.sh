#!/usr/bin/env bash
# Keys of the caches: what `up` builds and the program are addressed by the sources that make them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# The hash of files and directories of the checkout, by name and content.
hash_of() {
    (cd "$checkout" && find "$@" -type f -not -path '*/target/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) |
        sha256sum | cut -c 1-32
}

output artifacts "artifacts-$(hash_of fixtures/versions.toml fixtures/toolchain fixtures/clusters/node fixtures/workloads Cargo.lock)"
output program "meshproof-program-${RUNNER_OS:-Linux}-${RUNNER_ARCH:-X64}-$(hash_of Cargo.toml Cargo.lock src program suites fixtures)"
output state "$state"
