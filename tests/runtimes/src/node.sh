# Runs as process 1 of a node, in the node's own PID, mount and IPC namespaces. The pipe
# on stdin is held by the test: when it closes, be it by a kill -9, the node ends.
set -e
read -r pid _ </proc/self/stat # the old /proc: this process as the test sees it

# The state of the machine's own runtimes is not to be seen, not even below a writable layer.
for dir in /etc/cni /etc/containers /opt/cni /var/lib/cni /var/lib/containers /var/lib/containerd /var/lib/zeugma; do
    mkdir -p "$dir"
    mount -t tmpfs tmpfs "$dir"
done
mkdir -p /etc/cni/net.d /opt/cni/bin /run/node
# `podman load` insists on a policy for images.
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json

mount -t proc proc /proc
# /sys shows the network namespace it was mounted in; the cgroups must stay reachable.
mkdir /run/node/cgroup
mount --rbind /sys/fs/cgroup /run/node/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/node/cgroup /sys/fs/cgroup
umount -l /run/node/cgroup

echo "$pid"
cat >/dev/null
: # a last command, so that the shell stays and reaps what ends in the node
