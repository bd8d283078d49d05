# `bridge` with vlan, vlanTrunk and preserveDefaultVlan: containers meet within their VLAN and nowhere else.
. ./cni.sh

# access NETWORK VLAN SUBNET [MORE KEYS]
access() {
    cat <<END
{
  "cniVersion": "1.1.0", "name": "$1",
  "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "vlan": $2, ${4:-}
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "$3"}]]}
}
END
}

trunk() {
    cat <<END
{"cniVersion": "1.1.0", "name": "trunk", "type": "bridge", "bridge": "br0",
 "vlanTrunk": [{"id": 10}, {"minID": 100, "maxID": 103}, {"id": 102}]}
END
}

for name in red1 red2 blue plain both; do container $name; done
access red 10 10.1.0.0/24 | cni ADD red1
access red 10 10.1.0.0/24 | cni ADD red2 > /tmp/red2
access blue 20 10.2.0.0/24 | cni ADD blue > /dev/null
access both 30 fd00:3::/64 '"preserveDefaultVlan": true,' | cni ADD both > /dev/null
trunk | cni ADD plain > /dev/null
shows '"name":"br0.10"' sh -c 'tr -d " \n" < /tmp/red2'
bridge vlan show

port() { ip -o link show type veth | sed -n "s|.*: \(veth[0-9a-f]*\)@.*alias zeugma $1.*|\1|p"; }
shows "vlan_filtering 1" ip -d link show br0
shows "$(port red/red1/eth0) 10 PVID Egress Untagged" bridge vlan show dev "$(port red/red1/eth0)"
fails sh -c "bridge vlan show dev $(port red/red1/eth0) | grep -w 1"
shows "$(port trunk/plain/eth0) 1 PVID Egress Untagged 10 100 101 102 103" bridge vlan show dev "$(port trunk/plain/eth0)"
shows "$(port both/both/eth0) 1 Egress Untagged 30 PVID Egress Untagged" bridge vlan show dev "$(port both/both/eth0)"

red2=$(ip -n red2 -o -4 addr show eth0 | sed -n 's/.*inet \([0-9.]*\).*/\1/p')
holds reaches red1 "$red2"
holds reaches red1 10.1.0.1
holds reaches both fd00:3::1
holds reaches blue 10.2.0.1
# Not even with an address of the others' subnet.
ip -n blue addr flush dev eth0
ip -n blue addr add 10.1.0.99/24 dev eth0
fails reaches blue "$red2"
# A trunk's frames keep their tags.
ip -n plain link add link eth0 name eth0.10 type vlan id 10
ip -n plain link set eth0.10 up
ip -n plain addr add 10.1.0.77/24 dev eth0.10
holds reaches plain "$red2"

red2_result=$(cat /tmp/red2)
checked() { access red 10 10.1.0.0/24 | sed "s/\"type\"/\"prevResult\": $(tr -d '\n' < /tmp/red2 | sed 's/[\/&]/\\&/g'), \"type\"/" | cni CHECK red2; }
holds checked
bridge vlan add dev "$(port red/red2/eth0)" vid 1
fails checked
shows "is still in VLAN 1" cat /tmp/out
bridge vlan del dev "$(port red/red2/eth0)" vid 1
holds checked

access red 10 10.1.0.0/24 | cni DEL red1
access red 10 10.1.0.0/24 | cni DEL red2
access blue 20 10.2.0.0/24 | cni DEL blue
access both 30 fd00:3::/64 | cni DEL both
gc() { access red 10 10.1.0.0/24 | sed 's/"type"/"cni.dev\/valid-attachments": [], "type"/' | cni GC red1; }
holds gc
holds ip link show br0.10
trunk | cni DEL plain
holds gc
fails ip link show br0.10
fails ip link show br0

# A bridge that is there already starts to filter, and only zeugma's parts leave it.
ip link add br0 type bridge
ip link set br0 up
access red 10 10.1.0.0/24 | cni ADD red1 > /dev/null
shows "vlan_filtering 1" ip -d link show br0
holds reaches red1 10.1.0.1
access red 10 10.1.0.0/24 | cni DEL red1
holds gc
fails ip link show br0.10
holds ip link show br0
