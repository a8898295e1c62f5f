#!/bin/bash
# queue_scale - what a queue costs when ever more messages wait in it: publishing, taking, memory, a restart.
#
#     tests/bench/queue_scale.sh [BUILD [MOST]]        BUILD: the build directory (build); MOST: messages (10000000)
#
# A fresh store is mounted. At 0, 1000, 10000, ... up to MOST waiting messages of 100 bytes it measures, five times each,
# publishing 20000 messages by writes of one message, and delivering and acknowledging 20000 over open files, one by one; and prints the
# median of each beside that of the empty queue of the same run. Then the daemon's private memory, and how long a mount takes after
# a clean end and after kill -9. Needs root and about 2 GB on the disk for ten million.
set -eu
build=$(realpath "${1:-build}")
most=${2:-10000000}
per_run=${PER_RUN:-20000}
rounds=${ROUNDS:-5}
dir=$(mktemp -d "${TMPDIR:-/tmp}/mqfs-bench.XXXXXX")
store=$dir/store mnt=$dir/mq
mkdir "$mnt"

finish() {
	cd /
	umount "$mnt" 2>/dev/null || true
	while [ -s "$store/lock" ] && kill -0 "$(cat "$store/lock")" 2>/dev/null; do sleep 0.05; done
	rm -rf "$dir"
}
trap finish EXIT

mount_it() {
	local began
	began=$(date +%s%N)
	"$build/mqfs" "$store" "$mnt"
	ls "$mnt/queues/q/ready" -U 2>/dev/null | head -n 1 >/dev/null
	echo $((($(date +%s%N) - began) / 1000000))
}

rss_kib() {
	awk '/^RssAnon/ { print $2 }' "/proc/$(cat "$store/lock")/status"
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

mount_it >/dev/null
mkdir "$mnt/queues/q" "$mnt/queues/q/consumers/c"
cd "$mnt/queues/q"
echo "mqfs $(awk '$1 == "mqfs" { print $2 }' "$mnt/status/version"), $(uname -r), $(nproc) CPUs, $(date +%F)"
echo
echo "| waiting | publish, us a message | ratio | deliver and ack, us a message | ratio | private memory, KiB |"
echo "|---|---|---|---|---|---|"
waiting=0
first_publish='' first_take=''
for goal in 0 $(awk -v most="$most" 'BEGIN { for (n = 1000; n <= most; n *= 10) print n }'); do
	if [ "$goal" -gt "$waiting" ]; then
		"$build/tests/bench/queue_client" fill . $((goal - waiting))
		waiting=$goal
	fi
	publish='' take=''
	for ((round = 0; round < rounds; round++)); do
		publish+=$("$build/tests/bench/queue_client" publish . "$per_run")$'\n'
		take+=$("$build/tests/bench/queue_client" take . "$per_run")$'\n'
	done
	publish=$(printf %s "$publish" | median) take=$(printf %s "$take" | median)
	: "${first_publish:=$publish}" "${first_take:=$take}"
	awk -v g="$goal" -v p="$publish" -v fp="$first_publish" -v t="$take" -v ft="$first_take" -v m="$(rss_kib)" \
		'BEGIN { printf "| %d | %.2f | %.2f | %.2f | %.2f | %d |\n", g, p, p / fp, t, t / ft, m }'
done
cd /
umount "$mnt"
while kill -0 "$(cat "$store/lock" 2>/dev/null || echo 0)" 2>/dev/null && [ -s "$store/lock" ]; do sleep 0.05; done
echo
echo "mount after a clean end, with $waiting waiting: $(mount_it) ms"
pid=$(cat "$store/lock")
kill -KILL "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
umount -l "$mnt"
echo "mount after kill -9: $(mount_it) ms"
