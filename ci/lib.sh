# Shared by the steps of action.yml and ci/gitlab.yml. Sourced, not run.

# The checkout of meshproof that the step is from.
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# What the steps pass on to each other.
state=${MESHPROOF_STATE:-${RUNNER_TEMP:-/tmp}/meshproof}
mkdir -p "$state/bin"
# Where `meshproof` is built.
export PATH="$state/bin:$PATH"
# The suites' reports, one directory for each.
reports=${MESHPROOF_REPORTS:-meshproof}

# Stops with the exit code of an invalid command line.
usage() {
    echo "error: $1" >&2
    exit 2
}

# Runs a command as root. sudo has a search path of its own, hence `env`.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo --preserve-env=CI,HOME,KUBECONFIG,MESHPROOF_CACHE,MESHPROOF_NOT_DECLARED,MESHPROOF_PERF,MESHPROOF_TESTBED \
            env "PATH=$PATH" "$@"
    fi
}

# Gives files back to this user, after root has written them.
give_back() {
    if [ "$(id -u)" -ne 0 ] && [ -e "$1" ]; then
        sudo chown -R "$(id -u)" "$1"
    fi
}

# Sets an output of the step, where there are outputs.
output() {
    if [ -n "${GITHUB_OUTPUT:-}" ]; then
        printf '%s=%s\n' "$1" "$2" >> "$GITHUB_OUTPUT"
    fi
}

# Sets a variable for later steps.
export_later() {
    export "$1=$2"
    printf 'export %s=%q\n' "$1" "$2" >> "$state/env"
    if [ -n "${GITHUB_ENV:-}" ]; then
        printf '%s=%s\n' "$1" "$2" >> "$GITHUB_ENV"
    fi
}

# What earlier steps of a job have set, where the runner does not keep it.
if [ -z "${GITHUB_ENV:-}" ] && [ -e "$state/env" ]; then
    # shellcheck disable=SC1091
    . "$state/env"
fi
