# Stops scheduler, controller manager and kube-proxy, which can be spared for a while. The kubelet and the API server go on,
# because they carry commands and their answers, and so do all pods that the kubelet would find dead. Prints `held` once the
# three are stopped.
#
# Every 25 s the three run for 5 s: a controller manager that has heard nothing of a node for 40 s takes the node for lost, and
# counts its own pause. At the end of standard input they go on for good. It ends with the process that asked, in whatever way.
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
