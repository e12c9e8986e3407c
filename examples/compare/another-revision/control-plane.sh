#!/usr/bin/env bash
# Adds a control plane beside today's, with the settings of today's, under the revision REVISION; or removes it.
#
#   control-plane.sh add|remove REVISION
#
# `kubectl` and `istioctl` work on the current context of the kubeconfig. For another version of Istio, have that
# version's istioctl on the path, and name its images by TAG: `TAG=1.30.1 control-plane.sh add next`. The definitions of
# Istio's resources stay those of today's.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 add|remove REVISION" >&2; exit 2; }
action=$1 revision=$2
case "$revision" in '' | default | *[!a-z0-9-]*) echo "error: '$revision' is no name for another revision" >&2; exit 2 ;; esac
operator=$(mktemp) manifest=$(mktemp)
trap 'rm -f "$operator" "$manifest"' EXIT

# What today's control plane was installed with. It has the hub and the tag of its images as well.
values=$(kubectl --namespace istio-system get configmap values --output 'jsonpath={.data.original-values}')
cat > "$operator" << EOF
{"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "metadata": {"name": "$revision"},
 "spec": {"profile": "minimal", "values": $values}}
EOF
# The values name today's revision, which must not win.
set=(--set "revision=$revision" --set "values.revision=$revision" --set 'values.defaultRevision=')
[ -z "${TAG:-}" ] || set+=(--set "values.global.tag=$TAG")
# Not `istioctl install`: it makes the new revision the default, and the injection by today's ends. Only objects with the
# revision in their name: today's control plane has the others.
istioctl manifest generate --filename "$operator" "${set[@]}" | awk -v name="^  name: .*-$revision(-|\$)" '
    function end_object() { if (kept) printf "%s", text; text = ""; kept = 0 }
    /^---/ { end_object() }
    { text = text $0 "\n" }
    $0 ~ name { kept = 1 }
    END { end_object() }
' > "$manifest"
grep --quiet "^  name: istiod-$revision\$" "$manifest" || { echo "error: there is no istiod-$revision in what istioctl made" >&2; exit 1; }

case "$action" in
add)
    kubectl apply --server-side --filename "$manifest"
    kubectl --namespace istio-system rollout status "deployment/istiod-$revision" --timeout 180s
    ;;
remove) kubectl delete --ignore-not-found --filename "$manifest" ;;
*) echo "usage: $0 add|remove REVISION" >&2; exit 2 ;;
esac
