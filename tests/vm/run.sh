#!/bin/sh
# Runs scripts of this folder in a virtual machine, for what the machine's own kernel lacks: bridges that filter by
# VLAN, say. Not part of CI yet; run it by hand, as any user:
#
#   tests/vm/run.sh                 # every tests/vm/*.test.sh
#   tests/vm/run.sh vlans.test.sh   # one of them
#
# It needs qemu-system-x86_64, a kernel with its modules (KERNEL, by default the newest /boot/vmlinuz-*), a static
# busybox, ip and bridge of iproute2, nft, cpio, and cargo; on Debian:
#
#   apt-get install -y --no-install-recommends qemu-system-x86 linux-image-cloud-amd64 busybox-static cpio xz-utils \
#       iproute2 nftables
#
# The machine has no disk, no network and 256 MiB; all it knows is in the initramfs. It is emulated in software, which
# works everywhere and boots in seconds; VM_ACCEL=kvm is faster. A test is a shell script that ends with 0 when it holds.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
kernel=${KERNEL:-$(ls /boot/vmlinuz-* | sort -V | tail -n 1)}
release=${kernel##*/vmlinuz-}
target=x86_64-unknown-linux-gnu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
root=$work/root

# What zeugma and the tests use. The kernel cannot ask for modules by itself: the machine has no modprobe.
modules="bridge veth dummy 8021q macvlan ipvlan nf_tables nf_conntrack nf_conntrack_netlink nf_conntrack_bridge nf_nat
    nft_chain_nat nft_ct nft_nat nft_masq nft_redir nft_numgen nft_fib_inet nft_reject_inet nft_meta_bridge"

build() {
    RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --quiet --manifest-path "$here/../../Cargo.toml" --target "$target" -p zeugma-plugins
    executable=${CARGO_TARGET_DIR:-$here/../../target}/$target/debug/zeugma-cni
}

# A program and the libraries that it is linked with, at the same paths.
program() {
    file=$(command -v "$1") || { echo "$1 is missing" >&2; exit 1; }
    cp -L "$file" "$root/tools/$1"
    ldd "$file" | sed -n 's/^[^/]*\(\/[^ ]*\).*/\1/p' | while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
    done
}

# In the order in which they have to be loaded.
copy_modules() {
    number=100
    for module in $modules; do
        modprobe -S "$release" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++' | while read -r file; do
        number=$((number + 1))
        copy=$root/modules/$number-$(basename "${file%.ko*}").ko
        case $file in
            *.xz) xz -dc "$file" > "$copy" ;;
            *.zst) zstd -qdc "$file" > "$copy" ;;
            *.gz) gzip -dc "$file" > "$copy" ;;
            *) cp "$file" "$copy" ;;
        esac
    done
}

initramfs() {
    mkdir -p "$root/bin" "$root/tools" "$root/modules" "$root/cni" "$root/tests"
    cp "$(command -v busybox)" "$root/bin/busybox"
    # The shell of busybox takes its own ip before the real one.
    program sh
    program ip
    program bridge
    program nft
    copy_modules
    cp "$executable" "$root/cni/zeugma-cni"
    for plugin in bridge loopback host-local static portmap firewall tuning bandwidth; do
        ln -s zeugma-cni "$root/cni/$plugin"
    done
    cp "$here/init" "$root/init"
    cp "$here"/*.test.sh "$here/cni.sh" "$root/tests/"
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) > "$work/initramfs"
}

# The machine's last line tells how the test ended: its power switch has no exit status.
run() {
    timeout "${VM_TIMEOUT:-120}" qemu-system-x86_64 -accel "${VM_ACCEL:-tcg}" -cpu max -m 256 -nographic -no-reboot -nic none \
        -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyS0 panic=-1 quiet test=$1" < /dev/null |
        tr -d '\r' | tee "$work/console"
    grep -q "^test $1: passed$" "$work/console"
}

build
initramfs
[ $# -gt 0 ] || set -- $(cd "$here" && ls ./*.test.sh)
failed=0
for test in "$@"; do
    run "$(basename "$test")" || failed=1
done
exit $failed
