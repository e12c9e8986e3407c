# Holds still, for so many seconds, those parts of this node's control plane that a run can do without: what assigns pods to nodes,
# what replaces them, and what follows services. Not the kubelet and the API server, which carry the run's command and answer, nor
# any pod that the kubelet would find dead. Whatever becomes of who asked for it, they go on by themselves.
#
# sh hold.sh SECONDS
# Prints the number of processes that were held.
set -u
seconds=$1
held=$(pgrep -x 'kube-scheduler|kube-controller|kube-proxy')
trap 'kill -CONT $held 2> /dev/null' EXIT
trap 'exit 1' HUP INT TERM
# shellcheck disable=SC2086 # a list of processes
kill -STOP $held
# In the background, so that a signal is not kept waiting.
sleep "$seconds" &
wait $!
echo "$held" | wc -w
