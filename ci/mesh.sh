#!/usr/bin/env bash
# Brings up the mesh that the suites judge, or attaches to one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

case "${MESHPROOF_MESH:-up}" in
up)
    declaration=()
    if [ -n "${MESHPROOF_DECLARATION:-}" ]; then
        declaration=(--declaration "$(realpath "$MESHPROOF_DECLARATION")")
    fi
    (cd "$checkout" && as_root cargo xtask testbed up "${declaration[@]}")
    give_back "$checkout/target"
    export_later MESHPROOF_TESTBED "$checkout/target/testbed"
    ;;
attach)
    [ -n "${MESHPROOF_CONTEXTS:-}" ] || usage "to attach, name the contexts of the clusters"
    arguments=()
    for context in $MESHPROOF_CONTEXTS; do
        arguments+=(--context "$context")
    done
    if [ -n "${MESHPROOF_KUBECONFIG:-}" ]; then
        # A secret: in a file of this user's alone, and on no command line.
        (umask 077 && printf '%s\n' "$MESHPROOF_KUBECONFIG" > "$state/kubeconfig")
        export_later KUBECONFIG "$state/kubeconfig"
    fi
    if [ -n "${MESHPROOF_PROBE_IMAGE:-}" ]; then
        arguments+=(--probe-image "$MESHPROOF_PROBE_IMAGE")
    else
        arguments+=(--read-only)
    fi
    export_later MESHPROOF_TESTBED "$state/testbed"
    meshproof attach "${arguments[@]}"
    ;;
testbed)
    [ -n "${MESHPROOF_TESTBED:-}" ] || usage "mesh is \`testbed\`, and MESHPROOF_TESTBED names none"
    ;;
none) ;;
*)
    usage "mesh is \`$MESHPROOF_MESH\`: it must be up, testbed, attach or none"
    ;;
esac

# The change itself: every manifest, in every cluster of the testbed.
if [ -n "${MESHPROOF_CONFIGURATION:-}" ]; then
    case "${MESHPROOF_MESH:-up}" in
    up | testbed) ;;
    *) usage "configuration is applied to a testbed only, never to a mesh that is attached" ;;
    esac
    [ -d "$MESHPROOF_CONFIGURATION" ] || usage "configuration: $MESHPROOF_CONFIGURATION is no directory"
    kubectl="$MESHPROOF_TESTBED/bin/kubectl"
    kubeconfig="$MESHPROOF_TESTBED/kubeconfig"
    for context in $(as_root "$kubectl" --kubeconfig "$kubeconfig" config get-contexts --output name); do
        echo "configuration of $context"
        as_root "$kubectl" --kubeconfig "$kubeconfig" --context "$context" apply --recursive --filename "$MESHPROOF_CONFIGURATION"
    done
    # istiod collects changes for at most 10 s (PILOT_DEBOUNCE_MAX) before it pushes them.
    echo "waiting ${MESHPROOF_SETTLE:=10} s for the proxies to have the configuration"
    sleep "$MESHPROOF_SETTLE"
fi
