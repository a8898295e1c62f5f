#!/usr/bin/env bats
# A smoke run of the benchmark: it runs to its end and prints its table. No figure of it is checked.

@test "queue_scale prints its table" {
	[ "$(id -u)" = 0 ] && [ -r /dev/fuse ] || skip 'cannot mount'
	PER_RUN=200 ROUNDS=1 run timeout 60 tests/bench/queue_scale.sh "${MQFS_BUILD:-build}" 10000
	echo "$output"
	[ "$status" = 0 ]
	[ "$(grep -c '^| [0-9]' <<<"$output")" = 3 ]
	[[ $output == *'mount after kill -9:'* ]]
}
