#!/usr/bin/env bash
# Appends outcomes to the ledger on a branch of its own, without touching the working tree. Several jobs may push at the
# same time: lines have no order, so whoever is late takes the lines of the others and pushes again.
set -euo pipefail

outcomes=$1
branch=${MESHPROOF_LEDGER_BRANCH:-meshproof-ledger}
remote=${MESHPROOF_LEDGER_REMOTE:-origin}
[ -s "$outcomes" ] || { echo "no outcomes in $outcomes"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GIT_INDEX_FILE=$work/index
export GIT_AUTHOR_NAME=meshproof GIT_AUTHOR_EMAIL=meshproof@users.noreply.github.com
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL

for try in 1 2 3 4 5 6 7 8; do
    parent=()
    : > "$work/ledger"
    rm -f "$GIT_INDEX_FILE"
    if [ -n "$(git ls-remote "$remote" "refs/heads/$branch")" ]; then
        git fetch --quiet --depth 1 "$remote" "refs/heads/$branch"
        tip=$(git rev-parse FETCH_HEAD)
        git show "$tip:ledger.jsonl" > "$work/ledger"
        parent=(-p "$tip")
    fi
    grep -Fxv -f "$work/ledger" "$outcomes" > "$work/new" || true
    # An empty file of patterns matches nothing, so that all lines are new.
    [ -s "$work/new" ] || { echo "the ledger has these outcomes already"; exit 0; }
    cat "$work/ledger" "$work/new" > "$work/all"
    echo "ledger.jsonl merge=union" > "$work/attributes"
    git update-index --add --cacheinfo "100644,$(git hash-object -w "$work/all"),ledger.jsonl"
    git update-index --add --cacheinfo "100644,$(git hash-object -w "$work/attributes"),.gitattributes"
    commit=$(git commit-tree "${parent[@]}" -m "Add $(wc -l < "$work/new") outcomes" "$(git write-tree)")
    if git push --quiet "$remote" "$commit:refs/heads/$branch" 2> "$work/error"; then
        echo "$(wc -l < "$work/new") outcomes are on the branch $branch"
        exit 0
    fi
    echo "another job was first (attempt $try): $(tail -n 1 "$work/error")"
    sleep "$((RANDOM % 3)).$((RANDOM % 10))"
done
echo "error: the branch $branch could not be pushed: $(cat "$work/error")" >&2
exit 1
