#!/bin/bash
# produce - what appending messages of 100 bytes costs, beside the same into a plain file of the same disk.
#
#     tests/bench/produce.sh [BUILD]        BUILD: the build directory (build)
#
# A fresh store is mounted. In each round every work is done once by each side, one after the other: into a plain file, into a
# topic that lingers (linger.ms 5, past the daemon where the mount can do that), and into one that does not. A rate includes
# the close, after which all is in the log. Printed, as Markdown, are the plain file's median, and min, median and max of the
# rounds' ratios to it: 1.00 is the speed of the file. ROUNDS=5 MESSAGES=1000000 ECHOES=1000 in the environment. Needs root.
set -eu
build=$(realpath "${1:-build}")
rounds=${ROUNDS:-5} messages=${MESSAGES:-1000000} echoes=${ECHOES:-1000}
client=$build/tests/bench/produce_client
dir=$(mktemp -d "${TMPDIR:-/tmp}/mqfs-bench.XXXXXX")
store=$dir/store mnt=$dir/mq plain=$dir/plain
mkdir "$mnt"

finish() {
	cd /
	umount "$mnt" 2>/dev/null || true
	while [ -s "$store/lock" ] && kill -0 "$(cat "$store/lock")" 2>/dev/null; do sleep 0.05; done
	rm -rf "$dir"
}
trap finish EXIT

# Appends by echo in a loop of the shell: an open, a write and a close for each.
echo_rate() {
	bash -c 'began=$EPOCHREALTIME; for ((i = 0; i < $2; i++)); do echo "message $i" >>"$1"; done
		echo "$began $EPOCHREALTIME $2"' - "$1" "$echoes" | awk '{ printf "%.0f\n", $3 / ($2 - $1) }'
}

# rate WORK FILE - messages a second.
rate() {
	case $1 in
	'one write(2) each') "$client" "$2" "$messages" 100 ;;
	'writes of 64 KiB') "$client" "$2" $((messages * 5)) 65536 ;;
	'four producers') "$client" "$2" "$messages" 100 4 ;;
	'echo >> in a bash loop') echo_rate "$2" ;;
	esac
}

# Of numbers, one a line: "min median max".
spread() {
	sort -g | awk '{ v[NR] = $1 } END { printf "%s %s %s\n", v[1], v[int((NR + 1) / 2)], v[NR] }'
}

"$build/mqfs" "$store" "$mnt"
mkdir "$mnt/topics/lingers" "$mnt/topics/direct"
echo 0 >"$mnt/topics/direct/config/linger.ms"
echo "mqfs $(awk '$1 == "mqfs" { print $2 }' "$mnt/status/version"), $(grep ^producing "$mnt/status/version"), $(uname -r), $(nproc) CPUs, $(date +%F), $rounds rounds"
echo
echo "| work | plain file, messages/s | lingers: min, median, max | direct: min, median, max |"
echo "|---|---|---|---|"
for work in 'one write(2) each' 'writes of 64 KiB' 'four producers' 'echo >> in a bash loop'; do
	files='' lingers='' direct=''
	for ((round = 0; round < rounds; round++)); do
		rm -f "$plain"
		file=$(rate "$work" "$plain")
		files+=$file$'\n'
		lingers+=$(awk -v a="$(rate "$work" "$mnt/topics/lingers/in")" -v b="$file" 'BEGIN { printf "%.2f", a / b }')$'\n'
		direct+=$(awk -v a="$(rate "$work" "$mnt/topics/direct/in")" -v b="$file" 'BEGIN { printf "%.2f", a / b }')$'\n'
		echo all >"$mnt/topics/lingers/purge"
		echo all >"$mnt/topics/direct/purge"
	done
	read -r _ file _ < <(printf %s "$files" | spread)
	read -r a b c < <(printf %s "$lingers" | spread)
	read -r d e f < <(printf %s "$direct" | spread)
	echo "| $work | $file | $a $b $c | $d $e $f |"
done
