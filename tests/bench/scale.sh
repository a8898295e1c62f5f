#!/bin/bash
# scale - what a message costs as there are more of everything: tables in Markdown, and a picture of the curves.
#
#     tests/bench/scale.sh [--rounds N] [--most N] [--gib N] [--out DIR] [--smoke] [CURVE...]
#
# Curves, each on a fresh store, as medians of N rounds (3), with the private memory of the daemon beside each point:
#
#     waiting     1000 ... --most (10000000) messages of 100 bytes wait in a queue: to publish one more by a write of its own,
#                 and to deliver and acknowledge one over open files; and what a mount takes with them, after a clean end and kill -9
#     backlog     the same in a topic: to publish one more, and to read one through a group, of the first and of the last ones
#     topics      1 ... 10000 topics, all open: to publish one, in turn; and the same on as many plain files
#     groups      1 ... 1000 groups of a topic, each of which has read: to publish one, and to read one through a group
#     partitions  1 ... 100 partitions of a topic: the same
#     size        10 ... 100000 bytes a message: MB/s in writes of 64 KiB, and read through a group
#     mount       a topic of 1 ... --gib (1) GiB: what a mount takes after a clean end, and after kill -9 in the middle of writing
#
# Each round goes over all points of a curve, where these can be there side by side. In the first two client and daemon are bound to one
# processor: else what a message costs depends on whether they happen to share one. Where a message costs a fraction of a
# microsecond, there are as many as take some 0.3 s at least.
#
# The report goes to stdout and to DIR/scale.md (build/bench/scale). Needs root, and disk below TMPDIR: 2 GB for ten million
# messages, and --gib. --smoke: every curve with two small points, for a test.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${MQFS_BUILD:-build}
out='' rounds=3 most=10000000 gib=1 smoke='' per_run=20000 per_bulk=3000000 small_bytes=150000000 large_bytes=600000000
all_curves='waiting backlog topics groups partitions size mount'

usage() {
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--rounds | --most | --gib | --out) [ $# -gt 1 ] || usage ;;&
	--rounds) rounds=$2 && shift 2 ;;
	--most) most=$2 && shift 2 ;;
	--gib) gib=$2 && shift 2 ;;
	--out) out=$2 && shift 2 ;;
	--smoke) smoke=1 rounds=1 most=10000 per_run=200 per_bulk=200 small_bytes=400000 large_bytes=400000 && shift ;;
	-*) usage ;;
	*) break ;;
	esac
done
curves=${*:-$all_curves}
for curve in $curves; do
	[[ " $all_curves " = *" $curve "* ]] || usage
done
[[ $rounds$most$gib =~ ^[0-9]+$ ]] || usage
[ -n "${MQFS_BUILD:-}" ] || make -s all tests || exit
build=$(realpath "$build")
works=$build/tests/bench/works
out=${out:-$build/bench/scale}
mkdir -p "$out" && : >"$out/raw" && : >"$out/about" || exit
bound=()
dir=$(mktemp -d "${TMPDIR:-/tmp}/mqfs-scale.XXXXXX") || exit
mnt=$dir/mq store=$dir/store
mkdir "$mnt"
ulimit -n "$(ulimit -Hn)"

# Ends the daemon, if there is one, and waits for its end: unmount, or kill.
end_daemon() {
	local pid
	pid=$(cat "$store/lock" 2>/dev/null) || return 0
	if [ "${1:-}" = kill ]; then
		kill -KILL "$pid"
		while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
		umount -l "$mnt"
	elif mountpoint -q "$mnt"; then
		umount "$mnt" || umount -l "$mnt"
		while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
	fi
}

finish() {
	trap '' EXIT INT TERM
	end_daemon
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

die() {
	echo "scale: $*" >&2
	exit 1
}

fresh() {
	bound=()
	end_daemon
	rm -rf "$store"
	"$build/mqfs" "$store" "$mnt" || die 'cannot mount'
}

# Until the next fresh store, client and daemon share the last processor.
bind() {
	local last
	last=$(taskset -cp $$ | sed 's/.*[^0-9]//')
	taskset -acp "$last" "$(cat "$store/lock")" >/dev/null || die 'cannot bind'
	bound=(taskset -c "$last")
}

# mount_seconds FILE: until the mount is there, and answers for this file.
mount_seconds() {
	local began=${EPOCHREALTIME/./}
	"$build/mqfs" "$store" "$mnt" || die 'cannot mount again'
	stat "$mnt/$1" >/dev/null || die "no $1"
	awk -v us=$((${EPOCHREALTIME/./} - began)) 'BEGIN { print us / 1e6 }'
}

figure() {
	printf '%s|%s|%s|%s\n' "$1" "$2" "$3" "$4" >>"$out/raw"
}

# cost CURVE POINT COLUMN ARGUMENT...: runs works, and keeps microseconds a message.
cost() {
	local rate
	rate=$("${bound[@]}" "$works" "${@:4}" | awk '$1 == "rate" { print $2 }')
	[ -n "$rate" ] || die "failed: works ${*:4}"
	figure "$1" "$2" "$3" "$(awk -v rate="$rate" 'BEGIN { print 1e6 / rate }')"
}

memory() {
	figure "$1" "$2" 'private memory, MiB' "$(awk '/^RssAnon/ { print $2 / 1024 }' "/proc/$(cat "$store/lock")/status")"
}

# The powers of ten up to the given one; in a smoke run just two of them.
powers() {
	local n
	for ((n = $1; n <= $2; n *= 10)); do
		[ -z "$smoke" ] || [ $n -lt $(($1 * 100)) ] || break
		echo "$n"
	done
}

curve_waiting() {
	local goal round
	fresh
	for goal in $(powers 1000 "$most"); do
		mkdir -p "$mnt/queues/$goal" "$mnt/queues/$goal/consumers/c"
		"$works" queue "$mnt/queues/$goal" fill "$goal" || die 'cannot fill'
		memory waiting "$goal"
	done
	bind
	for ((round = 0; round < rounds; round++)); do
		for goal in $(powers 1000 "$most"); do
			cost waiting "$goal" 'publish, µs' queue "$mnt/queues/$goal" produce $per_run
			cost waiting "$goal" 'deliver and ack, µs' queue "$mnt/queues/$goal" settle $per_run
		done
	done
	goal=$(powers 1000 "$most" | tail -n 1)
	end_daemon
	figure mount "$goal messages in a queue" 'after a clean end, s' "$(mount_seconds "queues/$goal/ready")"
	end_daemon kill
	figure mount "$goal messages in a queue" 'after kill -9, s' "$(mount_seconds "queues/$goal/ready")"
}

curve_backlog() {
	local goal round topic
	fresh
	for goal in $(powers 1000 "$most"); do
		mkdir "$mnt/topics/$goal" "$mnt/topics/$goal/groups/g"
		"$works" topic "$mnt/topics/$goal" fill "$goal" || die 'cannot fill'
		memory backlog "$goal"
	done
	bind
	for ((round = 0; round < rounds; round++)); do
		for goal in $(powers 1000 "$most"); do
			topic=$mnt/topics/$goal
			echo latest >"$topic/groups/g/offset" || die 'cannot go on'
			cost backlog "$goal" 'publish, µs' topic "$topic" produce $per_run
			cost backlog "$goal" 'read one of the last, µs' topic "$topic" read-one $per_run
			echo earliest >"$topic/groups/g/offset" || die 'cannot go on'
			cost backlog "$goal" 'read one of the first, µs' topic "$topic" read-one $((per_run < goal ? per_run : goal))
			echo "before $(((round + 1) * per_run))" >"$topic/0/purge" || die 'cannot purge'
		done
	done
}

curve_topics() {
	local goal have=0 plain=0 count round
	fresh
	mkdir "$dir/plain"
	for goal in $(powers 1 10000); do
		for ((; have < goal; have++)); do echo "$mnt/topics/t$have"; done | xargs -r mkdir || die 'cannot make topics'
		have=$goal
		for ((; plain < goal; plain++)); do : >"$dir/plain/t$plain"; done
		count=$((per_run > 10 * goal ? per_run : 10 * goal))
		for ((round = 0; round < rounds; round++)); do
			cost topics "$goal" 'publish, µs' "spread:$goal" "$mnt/topics/t%d/in" - $count
			cost topics "$goal" 'plain files, µs' "spread:$goal" "$dir/plain/t%d" - $count
		done
		memory topics "$goal"
	done
}

# publish_and_read CURVE POINT: what was published is read by group g, and then gone.
publish_and_read() {
	local topic=$mnt/topics/$2
	cost "$1" "$2" 'publish, µs' topic "$topic" produce "$per_bulk"
	cost "$1" "$2" 'read, µs' topic "$topic" read-group "$per_bulk"
	echo latest >"$topic/groups/g/offset" || die 'cannot go on'
	echo all >"$topic/purge" || die 'cannot purge'
	memory "$1" "$2"
}

curve_groups() {
	local goal round topic have
	fresh
	for goal in $(powers 1 1000); do
		topic=$mnt/topics/$goal
		mkdir "$topic" "$topic/groups/g"
		for ((have = 0; have < goal - 1; have++)); do
			mkdir "$topic/groups/g$have" && cat "$topic/groups/g$have/next" >/dev/null || die 'cannot make groups'
		done
	done
	for ((round = 0; round < rounds; round++)); do
		for goal in $(powers 1 1000); do
			publish_and_read groups "$goal"
		done
	done
}

curve_partitions() {
	local goal round topic
	fresh
	for goal in $(powers 1 100); do
		topic=$mnt/topics/$goal
		mkdir "$topic" "$topic/groups/g"
		echo "$goal" >"$topic/config/partitions" || die 'cannot make partitions'
	done
	for ((round = 0; round < rounds; round++)); do
		for goal in $(powers 1 100); do
			publish_and_read partitions "$goal"
		done
	done
}

# megabytes CURVE POINT COLUMN SIZE ARGUMENT...: as cost, in MB/s of messages of SIZE bytes.
megabytes() {
	local rate
	rate=$("${@:5}" | awk '$1 == "rate" { print $2 }')
	[ -n "$rate" ] || die "failed: ${*:5}"
	figure "$1" "$2" "$3" "$(awk -v rate="$rate" -v size="$4" 'BEGIN { print rate * size / 1e6 }')"
}

curve_size() {
	local size count round topic
	fresh
	for size in $(powers 10 100000); do
		mkdir "$mnt/topics/$size" "$mnt/topics/$size/groups/g"
	done
	for ((round = 0; round < rounds; round++)); do
		for size in $(powers 10 100000); do
			topic=$mnt/topics/$size
			count=$(((size < 100 ? small_bytes : large_bytes) / size))
			megabytes size "$size" 'publish, MB/s' "$size" "$works" "size:$size" "$topic/in" - $count
			megabytes size "$size" 'read, MB/s' "$size" "$works" topic "$topic" read-group $count
			echo latest >"$topic/groups/g/offset" || die 'cannot go on'
			echo all >"$topic/purge" || die 'cannot purge'
			memory size "$size"
		done
	done
}

# Messages of 1000 bytes. The daemon is killed while somebody writes, who does not linger: a program that writes gigabytes ahead of the
# daemon can leave as many in its staging file, and these are taken in at the mount.
curve_mount() {
	local goal have=0 per_gib=$((1 << 20)) writer
	[ -z "$smoke" ] || per_gib=2000
	fresh
	mkdir "$mnt/topics/t"
	for goal in $(powers 1 "$gib"); do
		"$works" size:1000 "$mnt/topics/t/in" - $(((goal - have) * per_gib)) >/dev/null || die 'cannot fill'
		have=$goal
		end_daemon
		figure mount "$goal GiB in a topic" 'after a clean end, s' "$(mount_seconds topics/t/0/log)"
		echo 0 >"$mnt/topics/t/config/linger.ms"
		"$works" size:1000 "$mnt/topics/t/in" - 100000000 >/dev/null 2>&1 &
		writer=$!
		until [ "$(stat -c %s "$mnt/topics/t/0")" -gt $((goal * per_gib)) ]; do :; done
		end_daemon kill
		kill $writer 2>/dev/null || true
		wait $writer
		figure mount "$goal GiB in a topic" 'after kill -9, s' "$(mount_seconds topics/t/0/log)"
		memory mount "$goal GiB in a topic"
	done
}

{
	echo "machine|$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) CPUs, $(awk '/^MemTotal/ { printf "%d GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r), $(findmnt -n -o FSTYPE -T "$dir")"
	echo "date|$(date -u '+%F %H:%M') UTC"
	echo "rounds|$rounds"
	[[ "$curves" != *waiting* && "$curves" != *backlog* ]] || echo "bound|client and daemon on one processor, for messages that wait"
	echo "load|$(cut -d ' ' -f 1 /proc/loadavg)"
} >"$out/about"
fresh
echo "mqfs|mqfs $(awk '$1 == "mqfs" { print $2 }' "$mnt/status/version")$(git rev-parse --short HEAD 2>/dev/null | sed 's/^/, commit /'), libfuse $(awk '$1 == "libfuse" { print $2 }' "$mnt/status/version")" >>"$out/about"
for curve in $curves; do
	[ -n "$smoke" ] || echo "scale: $curve" >&2
	"curve_$curve"
done
end_daemon
tests/bench/report.py scale "$out"
