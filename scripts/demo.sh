# shellcheck shell=bash
# What the demos share: a redirect lab, told step by step, which goes again however the demo ends. A demo
# sources this file, which takes its arguments, and calls `main`.

if [ "$(id -u)" -ne 0 ]; then
	exec sudo "$0" "$@"
fi

here=$(dirname "$(realpath "$0")")
xdpredir=$(realpath -m "${1:-$here/../target/release/xdpredir}")
work=$(mktemp -d)
received=$work/received
servers=()
mounted=
lab=
# What is indented breaks between words on a terminal.
width=100000
[ ! -t 1 ] || width=$(($(stty size <&1 | cut -d ' ' -f 2) - 4))
[ "$width" -ge 20 ] || width=76

tell() {
	printf '\n%s\n' "$1"
}

fail() {
	printf '%s: %s\n' "${0##*/}" "$1" >&2
	exit 1
}

# Shows a command and its output, indented.
run() {
	printf '  $ %s\n' "$*"
	indented "$@"
}

indented() {
	"$@" 2>&1 | fold -s -w "$width" | sed '/./s/^/    /' || fail 'that command failed'
}

# Shows and runs a command in a host of the lab.
on() { # HOST WORD…
	printf '  $ xdpredir lab exec %s -- %s\n' "$1" "${*:2}"
	indented "$xdpredir" lab exec "$1" -- "${@:2}"
}

# Shows and runs `lab exec host -- xdpredir …`.
on_host() {
	printf '  $ xdpredir lab exec host -- xdpredir %s\n' "$*"
	indented "$xdpredir" lab exec host -- "$xdpredir" "$@"
}

check() {
	[ -x "$xdpredir" ] || fail "$xdpredir is not there: build it first (cargo build --release)"
	command -v nc >/dev/null || fail 'nc is not there: install it (Debian: package netcat-openbsd)'
	command -v socat >/dev/null || fail 'socat is not there: install it (Debian: package socat)'
	nc -h 2>&1 | grep -q OpenBSD || fail 'this nc is another one: install netcat-openbsd'
	case $("$xdpredir" lab status --json | tr -d '[:space:]') in
	*'"hosts":[]'*) ;;
	*) fail 'a lab is up already: remove it first (xdpredir lab down)' ;;
	esac
}

mount_bpffs() {
	[ "$(stat -f -c %T /sys/fs/bpf)" = bpf_fs ] && return
	tell 'Pins need a bpffs: mount one for now.'
	run mount -t bpf bpf /sys/fs/bpf
	mounted=1
}

lab_up() {
	printf '  $ xdpredir lab up redirect\n'
	lab=1
	indented "$xdpredir" lab up redirect
}

lab_down() {
	printf '  $ xdpredir lab down\n'
	indented "$xdpredir" lab down
	lab=
}

# The udpserver sends back what it is sent to port 7999.
serve() { # UDP|TCP
	local socat=(socat "${1}4-LISTEN:7999,fork" EXEC:cat)
	echo "  \$ xdpredir lab exec udpserver -- ${socat[*]}"
	"$xdpredir" lab exec udpserver -- "${socat[@]}" 2>/dev/null &
	servers+=($!)
	await_listener 7999 "$1"
}

# What the udpserver hears is appended to $received.
listen() { # PORT
	echo "  \$ xdpredir lab exec udpserver -- nc -u -k -l 172.17.0.2 $1"
	"$xdpredir" lab exec udpserver -- nc -d -u -k -l 172.17.0.2 "$1" >"$received" &
	servers+=($!)
	await_listener "$1" UDP
}

await_listener() { # PORT UDP|TCP
	local sockets=${2,,}
	for _ in {1..100}; do
		[ -n "$("$xdpredir" lab exec udpserver -- ss -Hln "--$sockets" "sport = $1")" ] && return
		sleep 0.1
	done
	fail "nobody listens on $2 port $1"
}

stop_server() {
	local server
	for server in "${servers[@]}"; do
		kill "$server" 2>/dev/null || true
		wait "$server" 2>/dev/null || true
	done
	servers=()
}

await_message() { # MESSAGE
	for _ in {1..50}; do
		grep -qxF "$1" "$received" && return
		sleep 0.1
	done
	fail "'$1' did not arrive at the udpserver within 5 seconds"
}

tidy_up() {
	status=$?
	trap - EXIT
	trap '' HUP INT TERM
	stop_server
	if [ -n "$lab" ]; then
		"$xdpredir" lab down >/dev/null || status=1
	fi
	if [ -n "$mounted" ]; then
		umount /sys/fs/bpf || status=1
	fi
	rm -rf "$work"
	exit "$status"
}

trap tidy_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
