#!/usr/bin/env bash
# The README's two commands on a bare Debian 12 that has nothing but a Rust toolchain, from a clean clone; then a kcat
# of this machine reads what the demo wrote.
#
#   sudo ./dev test bare [FOLDER]
#
# FOLDER (default: a temporary one, removed at the end) holds the Debian and is kept, so that a second run is quick.
# What the Debian gets from this machine: the Rust toolchain, the clone, name resolution, and local certificate
# authorities and proxy settings where there are any, since without them its registries may be out of reach.
# Everything in it runs in a process namespace of its own and ends with this script.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
passed=0
failed=0

say() { printf '%s\n' "bare: $*" >&2; }

make_debian() {
    if [[ ! -e $debian/etc/debian_version ]]; then
        say "making a Debian 12 in $debian"
        mkdir -p "$debian"
        debootstrap --variant=minbase bookworm "$debian" "$mirror" >"$logs/debootstrap.log" 2>&1 || {
            tail -20 "$logs/debootstrap.log" >&2
            return 1
        }
    fi
    cp /etc/resolv.conf /etc/hosts "$debian/etc/"
    local authority
    mkdir -p "$debian/usr/local/share/ca-certificates"
    for authority in /usr/local/share/ca-certificates/*.crt; do
        [[ ! -e $authority ]] || cp "$authority" "$debian/usr/local/share/ca-certificates/"
    done
}

copy_toolchain() {
    local sysroot
    sysroot=$(rustc --print sysroot)
    [[ ! -e $debian/opt/rust/bin/cargo ]] || return 0
    say "copying the Rust toolchain from $sysroot"
    mkdir -p "$debian/opt/rust"
    tar -C "$sysroot" --exclude=./share -cf - . | tar -C "$debian/opt/rust" -xf -
}

clone() {
    mkdir -p "$debian/root/flafka"
    # Only what is committed; of an earlier run only the target directory stays.
    find "$debian/root/flafka" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
    git -C "$root" archive --format=tar HEAD | tar -C "$debian/root/flafka" -xf -
}

# become COMMAND...: turns this (sub)shell into a command in the Debian, in the clone, with nothing of this machine's
# environment but proxies. The command is process 1 of its namespace, so nothing of it outlives it.
become() {
    local environment=(HOME=/root TERM="${TERM:-dumb}" PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    local name
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        [[ -z ${!name:-} ]] || environment+=("$name=${!name}")
    done
    # shellcheck disable=SC2016 # The inner shell expands these.
    exec unshare --mount --pid --fork --kill-child /bin/sh -c '
        debian=$1; shift
        mount -t proc proc "$debian/proc" && mount --rbind /dev "$debian/dev" || exit 1
        exec chroot "$debian" "$@"' sh "$debian" \
        /usr/bin/env -i "${environment[@]}" /bin/sh -c 'cd /root/flafka && exec "$@"' sh "$@"
}

# inside COMMAND...: runs a command in the Debian.
inside() { (become "$@"); }

# step TITLE COMMAND...
step() {
    local title=$1 begin=$SECONDS
    shift
    say "$title"
    if "$@"; then
        passed=$((passed + 1))
        say "$title: ok after $((SECONDS - begin)) s"
    else
        failed=$((failed + 1))
        say "$title: FAILED after $((SECONDS - begin)) s"
    fi
}

run_demo() {
    inside ./dev demo </dev/null 2>&1 | tee "$logs/demo.log"
}

# Starts the embedded log again on what the demo left and reads every topic of it with kcat.
read_with_kcat() {
    local properties port server topics topic records total=0
    properties=$(grep -o '/[^ ]*server\.properties' "$logs/demo.log" | tail -1)
    [[ -n $properties ]] || { say "the demo named no server.properties"; return 1; }
    port=$(sed -n 's|^listeners=PLAINTEXT://[^:]*:\([0-9]*\).*|\1|p' "$debian$properties")
    (become target/release/flafka broker -f "$properties") >"$logs/broker.log" 2>&1 </dev/null &
    server=$!
    for _ in $(seq 100); do
        topics=$(kcat -b "127.0.0.1:$port" -L 2>/dev/null | sed -n 's/^  topic "\([^"]*\)" with .*/\1/p') && [[ -n $topics ]] && break
        kill -0 "$server" 2>/dev/null || { cat "$logs/broker.log" >&2; return 1; }
        sleep 0.2
    done
    for topic in $topics; do
        records=$(kcat -b "127.0.0.1:$port" -C -t "$topic" -o beginning -e -q -f '%o\n' | wc -l)
        say "kcat read $records records of topic $topic"
        total=$((total + records))
    done
    # `unshare` holds back a SIGTERM until its child has ended: the broker gets it.
    pkill -TERM -P "$server"
    wait "$server"
    ((total > 0))
}

logs=$(mktemp -d)
if (($# > 0)); then
    debian=$(mkdir -p "$1" && cd "$1" && pwd)
    trap 'rm -rf "$logs"' EXIT
else
    debian=$(mktemp -d)
    trap 'rm -rf "$logs" "$debian"' EXIT
fi
make_debian
copy_toolchain
clone
step "./dev test" inside ./dev test
step "./dev demo" run_demo
step "kcat reads what the demo wrote" read_with_kcat
printf 'bare: %s passed, %s failed\n' "$passed" "$failed"
((failed == 0))
