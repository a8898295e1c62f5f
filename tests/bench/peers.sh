#!/bin/bash
# peers - mqfs and what else there is for messages, side by side: a report in Markdown, and pictures.
#
#     tests/bench/peers.sh [--rounds N] [--messages N] [--peers 'NAME...'] [--out DIR] [--smoke] [--io-uring] [WORK...]
#
# Works: produce batch producers answered durable durable-producers consume log settle settle-all wait shell lifecycle (all).
# In each, mqfs, a plain file and every peer that is installed take turns, round by round (5), on the processors that the kernel
# gives them. Peers: redis beanstalkd rabbitmq nats kafka (the mock of a broker in librdkafka); the packages of Debian are
#
#     redis-server libhiredis-dev  beanstalkd  rabbitmq-server librabbitmq-dev amqp-tools  nats-server libnats-dev  librdkafka-dev
#
# and one that is not there is named and left out. Each has a server of its own, on a socket in, or a loopback port of its own and
# with its data below, a temporary directory (TMPDIR says on which disk), and is ended with this script. Redis and beanstalkd sync every
# second, and always in the works named durable. The report goes to stdout and to DIR/report.md (build/bench); DIR/raw has all figures.
# About half an hour, and 6 GB of disk. Needs root, for the mount; status 1 if mqfs failed in a work.
# --io-uring: mqfs takes another turn, mounted with the option io_uring; the kernel's switch is put back at once.
# --smoke: every work once with a few messages, in seconds, for a test; no RabbitMQ, which starts too slowly.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${MQFS_BUILD:-build}
out='' rounds=5 messages=1000000 smoke='' ring='' wanted='redis beanstalkd rabbitmq nats kafka'
all_works='produce batch producers answered durable durable-producers consume log settle settle-all wait shell lifecycle'

usage() {
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--rounds | --messages | --peers | --out) [ $# -gt 1 ] || usage ;;&
	--rounds) rounds=$2 && shift 2 ;;
	--messages) messages=$2 && shift 2 ;;
	--peers) wanted=$2 && shift 2 ;;
	--out) out=$2 && shift 2 ;;
	--smoke) smoke=1 rounds=1 messages=2000 && shift ;;
	--io-uring) ring=1 && shift ;;
	-*) usage ;;
	*) break ;;
	esac
done
works=${*:-$all_works}
for work in $works; do
	[[ " $all_works " = *" $work "* ]] || usage
done
[[ $rounds$messages =~ ^[0-9]+$ ]] || usage
[ -n "${MQFS_BUILD:-}" ] || make -s all tests || exit
build=$(realpath "$build")
out=${out:-$build/bench}
mkdir -p "$out" && : >"$out/raw" && : >"$out/about" && : >"$out/servers.log" || exit
dir=$(mktemp -d "${TMPDIR:-/tmp}/mqfs-bench.XXXXXX") || exit
mnt=$dir/mq store=$dir/store us=mqfs
pids='' job='' failures=0 number=0

finish() {
	trap '' EXIT INT TERM
	local pid
	for pid in $job $(cat "$dir/rabbitmq/pid" 2>/dev/null) $pids; do kill "$pid" 2>/dev/null; done
	for pid in $pids; do
		for _ in {1..100}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
		kill -KILL "$pid" 2>/dev/null
	done
	for mnt in "$dir/mq" "$dir/mq-ring"; do
		mountpoint -q "$mnt" || continue
		pid=$(cat "$dir/store${mnt#"$dir/mq"}/lock")
		umount "$mnt" || umount -l "$mnt"
		while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
	done
	umount -l "$dir/floor" 2>/dev/null # mountpoint(1) need not see it: its program is gone
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

about() {
	printf '%s|%s\n' "$1" "$2" >>"$out/about"
}

version_of() {
	dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo unknown
}

# The servers. Each function sets at[NAME], what its client is given, or says why not.
declare -A at

start() {
	setpriv --pdeathsig KILL "$@" >>"$out/servers.log" 2>&1 </dev/null &
	pids="$pids $!"
}

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# until_up SECONDS COMMAND...: until the command succeeds.
until_up() {
	local end=$((SECONDS + $1))
	shift
	until "$@" 2>/dev/null; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

answers() {
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

redis_server() {
	mkdir "$dir/$1"
	start redis-server --port 0 --unixsocket "$dir/$1/socket" --dir "$dir/$1" --save '' --appendonly yes --appendfsync "$2" \
		--auto-aof-rewrite-percentage 0
	until_up 20 test -S "$dir/$1/socket" && at[$1]=$dir/$1/socket
}

start_redis() {
	about redis "Redis $(version_of redis-server), append-only file, fsync every second (always in durable works), unix socket"
	redis_server redis everysec && { [[ $works != *durable* ]] || redis_server redis-durable always; }
}

beanstalkd_server() {
	mkdir "$dir/$1"
	start beanstalkd -l "unix:$dir/$1/socket" -b "$dir/$1" "$2"
	until_up 20 test -S "$dir/$1/socket" && at[$1]=$dir/$1/socket
}

start_beanstalkd() {
	about beanstalkd "beanstalkd $(version_of beanstalkd), binlog, fsync every second (always in durable works), unix socket"
	beanstalkd_server beanstalkd -f1000 && { [[ $works != *durable* ]] || beanstalkd_server beanstalkd-durable -f0; } || return
	[[ $works = *shell* ]] || return 0
	mkdir "$dir/beanstalkd-shell"
	at[beanstalkd-shell]=$(free_port)
	start beanstalkd -l 127.0.0.1 -p "${at[beanstalkd-shell]}" -b "$dir/beanstalkd-shell" -f1000
	until_up 20 answers "${at[beanstalkd-shell]}"
}

start_rabbitmq() {
	local r=$dir/rabbitmq
	about rabbitmq "RabbitMQ $(version_of rabbitmq-server), durable classic queue, persistent messages, publisher confirms"
	mkdir "$r"
	at[rabbitmq]=$(free_port)
	ERL_EPMD_PORT=$(free_port)
	export ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
	printf 'listeners.tcp.local = 127.0.0.1:%s\n' "${at[rabbitmq]}" >"$r/rabbitmq.conf"
	echo '[].' >"$r/plugins"
	start epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT"
	start env HOME="$r" RABBITMQ_NODENAME=bench@localhost RABBITMQ_MNESIA_BASE="$r/mnesia" RABBITMQ_LOG_BASE="$r/log" \
		RABBITMQ_CONFIG_FILE="$r/rabbitmq" RABBITMQ_ENABLED_PLUGINS_FILE="$r/plugins" RABBITMQ_PID_FILE="$r/pid" \
		RABBITMQ_DIST_PORT="$(free_port)" RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
		/usr/lib/rabbitmq/bin/rabbitmq-server
	until_up 60 answers "${at[rabbitmq]}"
}

start_nats() {
	about nats "NATS JetStream $(version_of nats-server), stream in files, no fsync for each message"
	mkdir "$dir/nats"
	at[nats]=$(free_port)
	start nats-server -a 127.0.0.1 -p "${at[nats]}" -js -sd "$dir/nats"
	until_up 20 answers "${at[nats]}"
}

start_kafka() {
	about kafka "Kafka's protocol: the mock of a broker in librdkafka $(version_of librdkafka1), in memory, in the client's process"
	at[kafka]=-
}

declare -A command_of=([redis]=redis-server [beanstalkd]=beanstalkd [rabbitmq]=rabbitmq-server [nats]=nats-server [kafka]=true)
declare -A client_of=([redis]=redis [beanstalkd]=beanstalkd [rabbitmq]=amqp [nats]=nats [kafka]=kafka)

start_peers() {
	local peer
	peers=''
	for peer in $wanted; do
		if [ -z "${command_of[$peer]:-}" ]; then
			usage
		elif [ -n "$smoke" ] && [ "$peer" = rabbitmq ]; then
			about "left out" "$peer: it starts too slowly for a smoke run"
		elif ! command -v "${command_of[$peer]}" >/dev/null; then
			about "left out" "$peer: ${command_of[$peer]} is not installed"
		elif [ ! -x "$build/tests/bench/peers/${client_of[$peer]}" ]; then
			about "left out" "$peer: the library for its client is not installed, or make tests was not run since"
		elif ! "start_$peer"; then
			about "left out" "$peer: its server did not start: $out/servers.log"
		else
			peers="$peers $peer"
		fi
	done
}

# How many messages: in bulk a tenth for RabbitMQ and a fifth for beanstalkd and NATS, so that they end in time; the fewer, the better for them.
count_of() {
	local count=$messages
	case $1 in
	answered | settle) count=$((messages < 20000 ? messages / 10 : 20000)) ;;
	durable-producers) count=$((messages < 20000 ? 80 : 8000)) ;;
	durable) count=$((messages < 20000 ? 50 : 2000)) ;;
	wait) count=$((messages < 20000 ? 50 : 5000)) ;;
	shell) count=$((messages < 20000 ? 5 : 500)) ;;
	*)
		case $2 in
		rabbitmq) count=$((messages / 10)) ;;
		beanstalkd | nats) count=$((messages / 5)) ;;
		esac
		;;
	esac
	echo "$count"
}

# measure WORK CONTESTANT COMMAND...: runs the command and keeps what it prints; a work that the contestant has not is no failure.
measure() {
	local work=$1 contestant=$2 status=0 metric value
	shift 2
	sync -f "$dir"
	timeout -k 5 300 "$@" >"$dir/metrics" 2>"$dir/errors" </dev/null &
	job=$! # in the background, so that a signal ends this script at once
	wait $job || status=$?
	job=''
	if [ $status = 3 ]; then
		return
	elif [ $status != 0 ]; then
		echo "peers: $work: $contestant failed ($status): $(head -n 3 "$dir/errors")" >&2
		about failed "$contestant in $work"
		[[ $contestant != mqfs* ]] || failures=$((failures + 1))
		return
	fi
	while read -r metric value; do
		echo "$work|$metric|$contestant|$value" >>"$out/raw"
	done <"$dir/metrics"
}

# A fresh topic or queue for each run, and its end.
new_topic() {
	number=$((number + 1))
	place=$mnt/topics/bench-$number
	mkdir "$place" "$place/groups/g"
}

new_queue() {
	number=$((number + 1))
	place=$mnt/queues/bench-$number
	mkdir "$place" "$place/consumers/c"
}

drop_place() {
	echo all >"$place/purge" && rmdir "$place" || failures=$((failures + 1))
}

# settle_queue WORK HOW CONTESTANT: what waits in the queue is not in the time of taking it.
settle_queue() {
	local count
	count=$(count_of "$1" mqfs)
	new_queue
	[ "$2" = settle ] || echo 0 >"$place/config/prefetch"
	"$build/tests/bench/works" queue "$place" fill "$count" || failures=$((failures + 1))
	measure "$1" "$3" "$build/tests/bench/works" queue "$place" "$2" "$count"
	drop_place
}

run_mqfs() {
	local count
	count=$(count_of "$1" mqfs)
	case $1 in
	settle) settle_queue settle settle "$us" ;;
	settle-all)
		settle_queue settle-all settle-all "$us"
		settle_queue settle-all settle-ranges "$us, ranges of ids (stream.json)"
		;;
	lifecycle)
		new_queue
		echo 0 >"$place/config/prefetch"
		measure lifecycle "$us" "$build/tests/bench/works" queue "$place" lifecycle "$count"
		drop_place
		;;
	wait)
		new_topic
		echo 0 >"$place/config/linger.ms"
		measure wait "$us" "$build/tests/bench/works" topic "$place" wait "$count"
		drop_place
		new_topic
		measure wait "$us, lingering" "$build/tests/bench/works" topic "$place" wait "$count"
		drop_place
		new_queue
		measure wait "$us, queue" "$build/tests/bench/works" queue "$place" wait "$count"
		drop_place
		new_queue
		echo true >"$place/config/auto.ack"
		measure wait "$us, queue, auto.ack" "$build/tests/bench/works" queue "$place" wait-auto-ack "$count"
		drop_place
		;;
	shell)
		new_topic
		measure shell "$us" tests/bench/shell_loop file "$place/in" "$count"
		drop_place
		;;
	*)
		new_topic
		[ "$1" != answered ] || echo 0 >"$place/config/linger.ms"
		measure "$1" "$us" "$build/tests/bench/works" topic "$place" "$1" "$count"
		drop_place
		;;
	esac
}

run_plain() {
	local count file=$dir/plain
	count=$(count_of "$1" plain)
	case $1 in
	settle-all | lifecycle) return ;;
	shell) measure shell 'plain file' tests/bench/shell_loop file "$file" "$count" ;;
	settle) "$build/tests/bench/works" plain "$file" fill "$count" && measure settle 'plain file' "$build/tests/bench/works" plain "$file" settle "$count" ;;
	*) measure "$1" 'plain file' "$build/tests/bench/works" plain "$file" "$1" "$count" ;;
	esac
	rm -f "$file" "$file.offset"
}

# The least that FUSE takes, where a client waits for each answer, or its bytes go through the daemon.
run_floor() {
	local count who='FUSE alone'
	count=$(count_of "$1" mqfs)
	case $1 in
	produce | batch)
		grep -q 'producing.*staged' "$mnt/status/version" || return
		measure "$1" "$who" "$build/tests/bench/works" plain "$dir/floor/file" "$1" "$count"
		: >"$dir/passed"
		;;
	answered) measure answered "$who" "$build/tests/bench/works" plain "$dir/floor/in" answered "$count" ;;
	wait) measure wait "$who" "$build/tests/bench/works" topic "$dir/floor" wait "$count" ;;
	log) measure log "$who" "$build/tests/bench/works" topic "$dir/floor" log "$count" ;;
	shell) measure shell "$who" tests/bench/shell_loop file "$dir/floor/in" "$count" ;;
	esac
}

run_peer() {
	local work=$1 peer=$2 count server=$2
	count=$(count_of "$work" "$peer")
	if [ "$work" = shell ]; then
		[ "$peer" != kafka ] || return
		[ "$peer" != rabbitmq ] || command -v amqp-publish >/dev/null || return
		[ "$peer" != nats ] || "$build/tests/bench/peers/nats" "${at[nats]}" produce 1 >/dev/null # makes the stream
		[ "$peer" != rabbitmq ] || "$build/tests/bench/peers/amqp" "${at[rabbitmq]}" produce 1 >/dev/null
		measure shell "$peer" tests/bench/shell_loop "$peer" "${at[$peer-shell]:-${at[$peer]}}" "$count" "$build/tests/bench/peers/nats"
		return
	fi
	[[ $work != durable* ]] || [ -z "${at[$peer-durable]:-}" ] || server=$peer-durable
	[[ $work != durable* ]] || [ "$peer" != nats ] || return
	[ "$work" != log ] || return
	measure "$work" "$peer" "$build/tests/bench/peers/${client_of[$peer]}" "${at[$server]}" "$work" "$count"
}

describe_machine() {
	about machine "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) CPUs, $(awk '/^MemTotal/ { printf "%d GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r), $(findmnt -n -o FSTYPE -T "$dir")"
	about date "$(date -u '+%F %H:%M') UTC"
	about rounds "$rounds"
	about load "$(cut -d ' ' -f 1 /proc/loadavg)"
	about mqfs "mqfs $(awk '$1 == "mqfs" { print $2 }' "$mnt/status/version")$(git rev-parse --short HEAD 2>/dev/null | sed 's/^/, commit /'), libfuse $(awk '$1 == "libfuse" { print $2 }' "$mnt/status/version")"
	about "plain file" "appends to a file on the same disk"
	about messages "100 bytes, $messages of them in bulk works (RabbitMQ a tenth, beanstalkd and NATS a fifth, so that they end in time), in turn, not pinned to processors"
}

mkdir "$mnt"
# mqfs once more, with requests by io_uring; or ring='' and why not.
mount_ring() {
	local switch=/sys/module/fuse/parameters/enable_uring before status
	before=$(cat $switch 2>/dev/null)
	mkdir "$dir/mq-ring"
	[ -z "$before" ] || echo Y >$switch
	"$build/mqfs" -o io_uring "$dir/store-ring" "$dir/mq-ring"
	status=$?
	[ -z "$before" ] || echo "$before" >$switch
	[ $status = 0 ] || exit
	requests=$(sed -n 's/^requests //p' "$dir/mq-ring/status/version")
	about 'mqfs, io_uring' "requests $requests"
	[ "$requests" = io_uring ] || ring=''
}

mount_floor() {
	mkdir "$dir/floor"
	start "$build/tests/bench/floor" "$dir/floor" "$dir/passed"
	until_up 10 mountpoint -q "$dir/floor" || exit
	about "FUSE alone" "a file system with libfuse that keeps nothing: what the protocol takes, no peer"
}

"$build/mqfs" "$store" "$mnt" || exit
mount_floor
describe_machine
[ -z "$ring" ] || mount_ring
start_peers
for work in $works; do
	for ((round = 1; round <= rounds; round++)); do
		[ -n "$smoke" ] || echo "peers: $work, round $round of $rounds" >&2
		run_mqfs "$work"
		[ -z "$ring" ] || us='mqfs, io_uring' mnt=$dir/mq-ring run_mqfs "$work"
		run_plain "$work"
		run_floor "$work"
		for peer in $peers; do
			run_peer "$work" "$peer"
		done
	done
done
tests/bench/report.py peers "$out"
exit $((failures > 0))
