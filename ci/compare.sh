#!/usr/bin/env bash
# Makes the comparisons that the repository declares, of the change with what it is based on. The gate takes their verdicts:
# here only an unusable declaration fails, and what left no verdict.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

: > "$state/compared"
file=${MESHPROOF_COMPARISONS:-}
if [ -z "$file" ]; then
    exit 0
fi
base=${MESHPROOF_BASE_REVISION:-${CI_MERGE_REQUEST_DIFF_BASE_SHA:-}}
if [ -z "$base" ]; then
    echo "this run is based on no revision: nothing is compared"
    exit 0
fi
# A revision, and never an option of git.
[[ "$base" =~ ^[A-Za-z0-9_][A-Za-z0-9_./-]*$ ]] || usage "the base is \`$base\`: it must be a revision"
if ! git cat-file -e "$base^{commit}" 2> "$state/fetch"; then
    git fetch --quiet --depth 1 origin "$base" 2> "$state/fetch" || {
        cat "$state/fetch" >&2
        echo "error: the base $base is not in the checkout, and cannot be fetched: give actions/checkout \`fetch-depth: 2\`" >&2
        exit 3
    }
    base=$(git rev-parse FETCH_HEAD)
fi
# The testbed's kubectl builds kustomizations.
[ -z "${MESHPROOF_TESTBED:-}" ] || export PATH="$PATH:$MESHPROOF_TESTBED/bin"
rm -rf "${reports:?}"/compare-*
code=0
as_root "$(command -v meshproof)" compare --declared "$file" --base "$base" --output "$reports" || code=$?
[ "$code" -ne 2 ] || exit 2
give_back "$reports"
for report in "$reports"/compare-*/report.json; do
    [ ! -e "$report" ] || basename "$(dirname "$report")" >> "$state/compared"
done
case "$code" in
0 | 1 | 3) [ -s "$state/compared" ] || { echo "error: no comparison left a report" >&2; exit 3; } ;;
*) echo "error: the comparisons ended with the exit code $code" >&2; exit 3 ;;
esac
