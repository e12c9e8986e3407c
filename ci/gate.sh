#!/usr/bin/env bash
# Judges the reports: HTML, JUnit and Markdown, the outcomes for the ledger, the summary, and the exit code.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Every suite that was asked for: one without a report was not judged. Without a list, all that have a report.
directories=()
for suite in ${MESHPROOF_SUITES:-} $(cat "$state/own" "$state/compared" 2> /dev/null || true); do
    directories+=("$reports/${suite%%/*}")
done
if [ "${#directories[@]}" -eq 0 ]; then
    for report in "$reports"/*/report.json; do
        [ ! -e "$report" ] || directories+=("$(dirname "$report")")
    done
fi
[ "${#directories[@]}" -gt 0 ] || { echo "error: there is no report in $reports" >&2; exit 3; }

against=()
base=${MESHPROOF_BASE:-$state/base}
if [ -n "$(find "$base" -name report.json -print -quit 2> /dev/null)" ]; then
    against=(--against "$base")
else
    echo "no earlier run in $base: the summary has this run alone"
fi
# Without a summary: the gate writes it.
GITHUB_STEP_SUMMARY='' meshproof report "${directories[@]}" "${against[@]}" --summary /dev/null || true

# The ledger: of a file, or of a branch.
ledger=()
if [ -n "${MESHPROOF_LEDGER:-}" ]; then
    ledger=(--ledger "$MESHPROOF_LEDGER")
elif [ -n "${MESHPROOF_LEDGER_BRANCH:-}" ]; then
    if git fetch --quiet --depth 1 origin "refs/heads/$MESHPROOF_LEDGER_BRANCH" 2> "$state/fetch" &&
        git show FETCH_HEAD:ledger.jsonl > "$state/ledger.jsonl"; then
        ledger=(--ledger "$state/ledger.jsonl")
    else
        echo "no ledger on the branch $MESHPROOF_LEDGER_BRANCH yet: $(tail -n 1 "$state/fetch")"
    fi
fi
commit=${MESHPROOF_COMMIT:-${GITHUB_SHA:-${CI_COMMIT_SHA:-$(git rev-parse HEAD)}}}
outcomes="$reports/outcomes.jsonl"
rm -f "$outcomes"
recorded=()
for directory in "${directories[@]}"; do
    [ ! -e "$directory/report.json" ] || recorded+=("$directory")
done
if [ "${#recorded[@]}" -gt 0 ]; then
    meshproof ledger add --ledger "$outcomes" --commit "$commit" --attempt "${GITHUB_RUN_ATTEMPT:-1}" "${recorded[@]}"
fi

quarantine=()
[ -z "${MESHPROOF_QUARANTINE:-}" ] || quarantine=(--quarantine "$MESHPROOF_QUARANTINE")
url=()
[ -z "${MESHPROOF_URL:-}" ] || url=(--url "$MESHPROOF_URL")
summary="$reports/pull-request.md"
rm -f "$summary"
code=0
meshproof gate "${directories[@]}" "${against[@]}" "${ledger[@]}" "${quarantine[@]}" "${url[@]}" --summary "$summary" \
    2> "$state/gate-error" | tee "$state/gate" || code=${PIPESTATUS[0]}
cat "$state/gate-error" >&2
if [ ! -s "$summary" ]; then
    # A comment of an earlier run must not stay as if it were of this one.
    { printf '## ⚠️ meshproof: nothing was judged\n\n```text\n'; head -c 4000 "$state/gate-error"; printf '```\n'; } > "$summary"
fi

# `cargo test` of the reader's own suite also fails by what writes no report.
own=$(cat "$state/own-code" 2> /dev/null || echo 0)
if [ "$code" -eq 0 ] && [ "$own" -ne 0 ] && grep -q ' 0 in quarantine$' "$state/gate"; then
    echo "error: the suite in $MESHPROOF_OWN_SUITE failed (exit code $own), and its report does not say why" >&2
    printf '\n❌ `cargo test` in `%s` failed with the exit code %s, and its report does not say why.\n' \
        "$MESHPROOF_OWN_SUITE" "$own" >> "$summary"
    code=1
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -e "$summary" ]; then
    cat "$summary" >> "$GITHUB_STEP_SUMMARY"
fi

# What a later run compares itself with: the reports without logs and archives.
rm -rf "$state/base"
for directory in "${recorded[@]}"; do
    mkdir -p "$state/base/$(basename "$directory")"
    for file in report.json truth-table.json; do
        [ ! -e "$directory/$file" ] || cp "$directory/$file" "$state/base/$(basename "$directory")/"
    done
done
case "$code" in
0) output verdict holds ;;
1) output verdict does-not-hold ;;
*) output verdict nothing-judged ;;
esac
output summary "$summary"
exit "$code"
