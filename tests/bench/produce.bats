#!/usr/bin/env bats
# A smoke run of the benchmark: it runs to its end and prints its table. No figure of it is checked.

@test "produce prints its table" {
	[ "$(id -u)" = 0 ] && [ -r /dev/fuse ] || skip 'cannot mount'
	ROUNDS=1 MESSAGES=2000 ECHOES=20 run timeout 60 tests/bench/produce.sh "${MQFS_BUILD:-build}"
	echo "$output"
	[ "$status" = 0 ]
	[ "$(grep -c '^| [a-z].* [0-9.]* [0-9.]* [0-9.]* |$' <<<"$output")" = 4 ]
}
