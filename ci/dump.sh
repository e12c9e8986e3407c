#!/usr/bin/env bash
# Collects everything about a testbed in one archive beside the reports, without secrets.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

mkdir -p "$reports"
archive=$(realpath "$reports")/testbed.tar.gz
(cd "$checkout" && as_root cargo xtask testbed dump --output "$archive")
give_back "$archive"
