#!/usr/bin/env bash
# Runs the suites. What they find is in their reports, and the gate judges it: here only an invalid suite fails.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

: > "$state/own"
# shellcheck disable=SC2086 # A list of names.
set -- ${MESHPROOF_SUITES:-}
named=" "
for asked in "$@"; do
    [[ "$asked" =~ ^[a-z0-9_-]+(/[A-Za-z0-9_:]+(,[A-Za-z0-9_:]+)*)?$ ]] ||
        usage "suites: \`$asked\`: write SUITE, or SUITE/TEST,TEST for some of its tests"
    suite=${asked%%/*}
    # The second report would take the place of the first.
    [[ "$named" != *" $suite "* ]] || usage "suites: $suite is there twice: name several of its tests as $suite/TEST,TEST"
    named+="$suite "
done
for asked in "$@"; do
    suite=${asked%%/*}
    IFS=, read -ra tests <<< "${asked:${#suite}}"
    echo "=== $asked"
    code=0
    as_root "$(command -v meshproof)" test --output "$reports" "$suite" "${tests[@]#/}" || code=$?
    [ "$code" -ne 2 ] || exit 2
done

if [ -n "${MESHPROOF_OWN_SUITE:-}" ]; then
    echo "=== $MESHPROOF_OWN_SUITE"
    code=0
    built=$(realpath "$MESHPROOF_OWN_SUITE")/target
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$built}
    # A file system's clock may be coarse.
    touch -d '1 second ago' "$state/began"
    (cd "$MESHPROOF_OWN_SUITE" && as_root env "CARGO_TARGET_DIR=$CARGO_TARGET_DIR" cargo test --no-fail-fast) || code=$?
    give_back "$CARGO_TARGET_DIR"
    for report in "$CARGO_TARGET_DIR"/meshproof/*/; do
        # Not that of an earlier run.
        if [ "$report/report.json" -nt "$state/began" ]; then
            name=$(basename "$report")
            rm -rf "${reports:?}/$name"
            mkdir -p "$reports"
            cp -R "$report" "$reports/$name"
            echo "$name" >> "$state/own"
        fi
    done
    # Nothing was judged, as where the suite does not compile.
    [ -s "$state/own" ] || { echo "error: the suite in $MESHPROOF_OWN_SUITE left no report" >&2; exit 3; }
    echo "$code" > "$state/own-code"
fi
give_back "$reports"
