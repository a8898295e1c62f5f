#!/usr/bin/env bats
# A smoke run of the benchmark: it runs to its end and prints its table. No figure of it is checked.

@test "bindings prints its table" {
	[ "$(id -u)" = 0 ] && [ -r /dev/fuse ] || skip 'cannot mount'
	PER_RUN=200 ROUNDS=3 MOST_RATIO=1000000 run timeout 120 tests/bench/bindings.sh "${MQFS_BUILD:-build}" 1000
	echo "$output"
	[ "$status" = 0 ]
	[ "$(grep -c '^| topic | [0-9]' <<<"$output")" = 4 ]
	[ "$(grep -c '^| direct | [0-9]' <<<"$output")" = 4 ]
}
