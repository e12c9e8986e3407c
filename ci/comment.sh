#!/usr/bin/env bash
# Writes a file as a comment of the pull request, and replaces the comment of an earlier run. Needs curl and jq.
set -euo pipefail

file=$1
name=${2:-meshproof}
marker="<!-- $name -->"
[ -s "$file" ] || { echo "nothing to say: $file is empty" >&2; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "${GITLAB_CI:-}" ]; then
    number=${CI_MERGE_REQUEST_IID:-}
    api=$CI_API_V4_URL/projects/$CI_PROJECT_ID/merge_requests/$number
    list=$api/notes
    header="PRIVATE-TOKEN: ${MESHPROOF_TOKEN:-}"
    update=PUT
else
    number=$(jq -r '.pull_request.number // empty' "$GITHUB_EVENT_PATH")
    api=${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY/issues
    list=$api/$number/comments
    header="Authorization: Bearer ${MESHPROOF_TOKEN:-}"
    update=PATCH
fi
[ -n "$number" ] || { echo "this is no pull request: nothing to comment on"; exit 0; }
[ -n "${MESHPROOF_TOKEN:-}" ] || { echo "warning: there is no token to comment with: the summary is on the run's page"; exit 0; }
# In a file, because every user can read a command line.
(umask 077 && printf '%s\n' "$header" > "$work/header")

# call METHOD URL [BODY]: the answer is in $work/answer, its status in $status.
call() {
    local arguments=(--silent --show-error --max-time 60 --request "$1" --header "@$work/header" --output "$work/answer")
    [ -z "${3:-}" ] || arguments+=(--header "Content-Type: application/json" --data "@$3")
    status=$(curl "${arguments[@]}" --write-out '%{http_code}' "$2")
    case "$status" in
    2??) ;;
    401 | 403 | 404)
        # A pull request from a fork has no right to write, and the verdict does not depend on a comment.
        echo "::warning::no right to comment ($status): the summary is on the run's page"
        exit 0
        ;;
    *)
        echo "error: $1 $2: $status: $(head -c 300 "$work/answer")" >&2
        exit 1
        ;;
    esac
}

found=
for page in $(seq 1 30); do
    call GET "$list?per_page=100&page=$page"
    found=$(jq -r --arg marker "$marker" '[.[] | select(.body | startswith($marker)) | .id][0] // empty' "$work/answer")
    if [ -n "$found" ] || [ "$(jq length "$work/answer")" -lt 100 ]; then
        break
    fi
done
jq --null-input --arg marker "$marker" --rawfile text "$file" '{body: ($marker + "\n" + $text)}' > "$work/body"
if [ -z "$found" ]; then
    call POST "$list" "$work/body"
    echo "commented"
else
    [ "$update" = PUT ] && one=$list/$found || one=$api/comments/$found
    call "$update" "$one" "$work/body"
    echo "updated the comment $found"
fi
