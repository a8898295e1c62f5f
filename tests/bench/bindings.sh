#!/bin/bash
# bindings - what publishing through an exchange costs when ever more is bound to it.
#
#     tests/bench/bindings.sh [BUILD [MOST]]        BUILD: the build directory (build); MOST: bindings (10000)
#
# A fresh store is mounted. For each type of exchange that finds its bindings by their words (topic, direct), with 1, 10, 100, ... up
# to MOST bindings, of which one matches, it publishes PER_RUN messages by writes of one message, ROUNDS times, and prints the median
# beside that of one binding of the same run. Fails if it is more than MOST_RATIO (10) times that: so much is promised. Needs root.
set -eu
build=$(realpath "${1:-build}")
most=${2:-10000}
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

"$build/mqfs" "$store" "$mnt"
cd "$mnt"
echo "mqfs $(awk '$1 == "mqfs" { print $2 }' status/version), $(uname -r), $(nproc) CPUs, $(date +%F)"
echo
echo "| type | bindings | publish, us a message | ratio |"
echo "|---|---|---|---|"
python3 - "$most" "${PER_RUN:-5000}" "${ROUNDS:-5}" "${MOST_RATIO:-10}" <<'EOF'
import os, statistics, sys, time

most, per_run, rounds, most_ratio = map(int, sys.argv[1:])
worst = 0.0
os.mkdir('queues/target')
with open('queues/target/config/max.length', 'w') as f:
    f.write('1000\n')


def bind(exchange, pattern):
    os.mkdir(f'{exchange}/bindings/{pattern}')
    os.symlink('../../../../queues/target', f'{exchange}/bindings/{pattern}/target')


def publish(exchange, key):
    fd = os.open(f'{exchange}/keys/{key}', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    message = b'x' * 99 + b'\n'
    began = time.perf_counter()
    for _ in range(per_run):
        os.write(fd, message)
    took = time.perf_counter() - began
    os.close(fd)
    return took / per_run * 1e6


for kind, pattern, key in ('topic', 'unit-%d.*.state', 'unit-0.x.state'), ('direct', 'key-%d', 'key-0'):
    exchange, bound, first = f'exchanges/{kind}', 0, None
    os.mkdir(exchange)
    with open(exchange + '/type', 'w') as f:
        f.write(kind)
    goal = 1
    while goal <= most:
        while bound < goal:
            bind(exchange, pattern % bound)
            bound += 1
        us = statistics.median(publish(exchange, key) for _ in range(rounds))
        first = first or us
        worst = max(worst, us / first)
        print(f'| {kind} | {bound} | {us:.2f} | {us / first:.2f} |', flush=True)
        goal *= 10
if worst > most_ratio:
    sys.exit(f'more than {most_ratio} times as much: {worst:.1f}')
EOF
cd /
