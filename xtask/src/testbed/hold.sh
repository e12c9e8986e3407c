# Holds still those parts of this node's control plane that can be spared for a while: what assigns pods to nodes, what replaces
# them, and what follows services. Not the kubelet and the API server, which carry commands and their answers, nor any pod
# that the kubelet would find dead. Each half minute they get a moment: a controller manager that has heard nothing of a node for
# 40 s takes it for lost, its own sleep included. They go on for good at the end of standard input, which comes however who
# asked for it ends. Says `held` once it is so.
set -u
names='kube-scheduler|kube-controller|kube-proxy'
holding=
trap 'kill $holding; pkill -CONT -x "$names"' EXIT
trap 'exit 1' HUP INT TERM
pkill -STOP -x "$names" && echo held || echo "nothing to hold"
while :; do
    sleep 25
    pkill -CONT -x "$names"
    sleep 5
    pkill -STOP -x "$names"
done &
holding=$!
cat > /dev/null
