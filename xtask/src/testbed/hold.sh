# Holds still, for a while, what runs in this node beside what is timed: the kubelet, and all pods but some. Whatever becomes of
# who asked for it, what is held goes on by itself.
#
# sh hold.sh AFTER SECONDS POD…
#   AFTER    seconds until then
#   SECONDS  how long
#   POD      uid of a pod that goes on
# Prints the number of processes that were held.
set -u
after=$1 seconds=$2
shift 2
kept=
for pod in "$@"; do kept="$kept -e $pod"; done
sleep "$after"
# Processes of pods are in control groups below `kubepods`, by the pod's uid. The list is of the time when it is needed; a
# process that ends meanwhile is missing in it, and has no part in this.
# shellcheck disable=SC2086 # a list of arguments
held=$(grep -l kubepods /proc/[0-9]*/cgroup 2> /dev/null | xargs grep -L $kept 2> /dev/null | cut -d / -f 3
    pgrep -x kubelet)
# shellcheck disable=SC2086 # a list of processes
kill -STOP $held 2> /dev/null
trap 'kill -CONT $held 2> /dev/null' EXIT
trap 'exit 1' HUP INT TERM
# In the background, so that a signal is not kept waiting.
sleep "$seconds" &
wait $!
echo "$held" | wc -w
