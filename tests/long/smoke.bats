# smoke.bats - a glance at what the long suites look at, so that they are known to work; tests/long/run has the long run.

@test "power cuts: a few states of one work, and of its recovery" {
	MQFS_POWER_STATES=1500 "${MQFS_BUILD:-build}"/tests/long/long_power
}

@test "power cuts: a recovery that is cut gives nobody a message of an exchange twice" {
	MQFS_POWER_STATES=2500 MQFS_POWER_FROM=165 "${MQFS_BUILD:-build}"/tests/long/long_power
}

@test "power cuts: what an ack says of a message that was lost is not said of the next in its place" {
	MQFS_POWER_STATES=2700 MQFS_POWER_SEED=13 "${MQFS_BUILD:-build}"/tests/long/long_power
}

@test "power cuts: a group with members, and what they reject" {
	MQFS_POWER_STATES=1200 MQFS_POWER_SEED=3 MQFS_POWER_FROM=300 "${MQFS_BUILD:-build}"/tests/long/long_power
}

@test "power cuts: queues that linger, at some moments of several works" {
	MQFS_POWER_STATES=1200 MQFS_POWER_SEED=2 MQFS_POWER_STEP=2 MQFS_POWER_EACH=211 "${MQFS_BUILD:-build}"/tests/long/long_power
}

@test "power cuts: after some of the sequences of two steps" {
	MQFS_SEQUENCES_LENGTH=2 MQFS_SEQUENCES_EACH=61 "${MQFS_BUILD:-build}"/tests/long/long_sequences
}

@test "damage: some bits flipped, some cuts" {
	MQFS_FLIPS_STEP=997 "${MQFS_BUILD:-build}"/tests/long/long_flips
}

@test "damage: the same in the catalog and the journal" {
	MQFS_DAMAGE_STEP=97 "${MQFS_BUILD:-build}"/tests/long/long_damage
}

@test "kill -9 at some of the calls of a short script" {
	MQFS_KILL_OPERATIONS=250 MQFS_KILL_STEP=29 "${MQFS_BUILD:-build}"/tests/long/long_kill
}

@test "kill -9 under load" {
	[ "$(id -u)" = 0 ] && [ -r /dev/fuse ] || skip "cannot mount: not root, or no /dev/fuse"
	tests/long/kills.py random --kills 3 --seconds 60 "${MQFS_BUILD:-build}"
}

@test "kill -9 at system calls" {
	[ "$(id -u)" = 0 ] && [ -r /dev/fuse ] || skip "cannot mount: not root, or no /dev/fuse"
	command -v strace >/dev/null || skip "strace is not installed"
	# LeakSanitizer does not work under strace.
	ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" tests/long/kills.py syscalls --points 11 --operations 1000 --seconds 60 "${MQFS_BUILD:-build}"
}

# stub BUILD - suites that do nothing: they say how much time they were given, and fail if there is BUILD/fail
stub() {
	mkdir -p "$1/tests/long"
	for suite in power flips; do
		cat >"$1/tests/long/long_$suite" <<-END
			#!/bin/sh
			echo $suite \$MQFS_${suite^^}_SECONDS 2 3 4 5 6 7
			[ ! -e $1/fail ]
		END
		chmod +x "$1/tests/long/long_$suite"
	done
}

@test "run: the time is shared out, and the summary keeps a row of each suite" {
	local build=$BATS_TEST_TMPDIR
	unset MQFS_POWER_SECONDS MQFS_FLIPS_SECONDS
	stub "$build"
	MQFS_LONG_SECONDS=390 tests/long/run "$build" power flips
	grep -q '^power 240 ' "$build/long/power.out"
	grep -q '^flips 150 ' "$build/long/flips.out"
	grep '^| Damage of messages' "$build/long/summary.md" >"$build/before"
	touch "$build/fail"
	! MQFS_LONG_SECONDS=390 MQFS_POWER_SECONDS=7 tests/long/run "$build" power || false
	grep -q '^power 7 ' "$build/long/power.out"
	[ "$(grep -c '^| Power loss .*FAILED (1)' "$build/long/summary.md")" = 1 ]
	[ "$(grep -c '^| [PD]' "$build/long/summary.md")" = 2 ]
	grep '^| Damage of messages' "$build/long/summary.md" | cmp - "$build/before"
	run tests/long/run "$build" power nonsense
	[ "$status" = 2 ]
}
