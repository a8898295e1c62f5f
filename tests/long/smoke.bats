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
