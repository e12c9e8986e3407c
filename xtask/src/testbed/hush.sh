# Holds still, for as many seconds as each line of standard input says, the kubelet and all pods of this node but those whose UIDs
# are the arguments: API server, etcd and scheduler are pods as well. Says `held` and how many processes when it is so, and `over`
# when all go on. Between two lines nothing is held. That lasts for seconds, which nothing here takes for a failure: a node is missed
# after 40.
set -u
# With the cgroup driver of systemd a UID has no dashes.
spared="$* $(echo "$*" | tr - _)"

# Whether the process in that directory is to be held.
is_other() {
    name= cgroup=
    # It may have ended in between.
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

# How many of these processes do not run; state, after the name in parentheses, is `T` then.
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
    # Before they are stopped: whatever becomes of this shell, they go on.
    { sleep "$seconds"; kill -CONT $others; echo over; } 2> /dev/null &
    kill -STOP $others 2> /dev/null
    echo "held $(stopped $others)"
    wait
done
