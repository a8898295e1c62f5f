#!/usr/bin/env bats
# A smoke run of the benchmark: it runs to its end and prints its table. No figure of it is checked.

@test "session prints its table" {
	[ "$(id -u)" = 0 ] && [ -r /dev/fuse ] || skip 'cannot mount'
	run timeout 60 tests/bench/session.py "${MQFS_BUILD:-build}" 3
	echo "$output"
	[ "$status" = 0 ]
	[ "$(grep -c -E '^\| 1(000)? \| 3 \| [0-9.]+ \| [0-9.]+ \|$' <<<"$output")" = 2 ]
}
