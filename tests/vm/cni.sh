# What the tests in here share: containers, CNI calls, and claims about both. To be sourced.

# container NAME: a network namespace.
container() {
    ip netns add "$1"
    ip -n "$1" link set lo up
}

# cni VERB CONTAINER < configuration: calls the plugin that the configuration names.
cni() {
    conf=$(cat)
    plugin=$(echo "$conf" | sed -n 's/.*"type": *"\([a-z-]*\)".*/\1/p' | head -n 1)
    echo "$conf" | CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=/cni "/cni/$plugin"
}

# holds WORDS… : the command succeeds. fails WORDS… : it does not.
holds() {
    "$@" > /tmp/out 2>&1 || { echo "does not hold: $*"; cat /tmp/out; return 1; }
}
fails() {
    if "$@" > /tmp/out 2>&1; then echo "should fail: $*"; cat /tmp/out; return 1; fi
}

# reaches CONTAINER ADDRESS
reaches() {
    ip netns exec "$1" ping -c 1 -W 2 "$2"
}

# shows TEXT WORDS… : the command prints the text, white space taken as one.
shows() {
    text=$1
    shift
    "$@" | tr -s ' \t\n' ' ' | grep -qF -- "$text" || { echo "not shown: $text"; "$@"; return 1; }
}
