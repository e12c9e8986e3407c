#!/usr/bin/env bash
# Removes what the suites have created in an attached mesh, and the credentials.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

trap 'rm -f "$state/kubeconfig"' EXIT
if [ -e "${MESHPROOF_TESTBED:-$state/testbed}/testbed.json" ]; then
    meshproof detach
fi
