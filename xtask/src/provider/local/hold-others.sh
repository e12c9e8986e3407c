# Stops the kubelet and all pods of this node, except the pods whose UIDs are the arguments. API server, etcd and scheduler are
# pods as well. Each line of standard input says for how many seconds. Prints `held` and the number of processes when they are
# stopped, and `over` when they go on. Between two lines nothing is stopped. A few seconds are no failure: a node is missed after
# 40 s.
set -u
# With the cgroup driver of systemd a UID has no dashes.
spared="$* $(echo "$*" | tr - _)"

# Whether the process in this directory is to be stopped.
is_other() {
    name= cgroup=
    # The process may have ended by now.
    { read -r name < "$1/comm" && read -r cgroup < "$1/cgroup"; } 2> /dev/null
    [ "$name" = kubelet ] && return
    case $cgroup in *kubepods*) ;; *) return 1 ;; esac
    for uid in $spared; do
        case $cgroup in *"$uid"*) return 1 ;; esac
    done
}

others() {
    for process in /proc/[0-9]*; do
        is_other "$process" && printf '%s ' "${process#/proc/}"
    done
}

# How many of these processes are stopped: their state, after the name in parentheses, is `T`.
stopped() {
    count=0
    for process; do
        stat=
        { read -r stat < "/proc/$process/stat"; } 2> /dev/null
        case ${stat##*) } in T*) count=$((count + 1)) ;; esac
    done
    echo "$count"
}

while read -r seconds; do
    others=$(others)
    # Started before they are stopped, so that they go on even if this shell is killed.
    { sleep "$seconds"; kill -CONT $others; echo over; } 2> /dev/null &
    kill -STOP $others 2> /dev/null
    echo "held $(stopped $others)"
    wait
done
