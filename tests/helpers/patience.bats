# patience.bats - a kernel that ends a mount when a request takes long (fs.fuse.default_request_timeout, Linux 6.14): reads wait all the same.
# The sysctl is set for the moment of mounting, and put back; no other file mounts meanwhile (tests/run).
# shellcheck disable=SC2317 # called by bats

load ../mount/helpers
SYSCTL=/proc/sys/fs/fuse/default_request_timeout

no_sysctl() {
	if ! [ -e $SYSCTL ]; then
		echo 'the kernel has no limit of requests (Linux 6.14)'
	elif ! can_set $SYSCTL; then
		echo "$SYSCTL cannot be set"
	fi
}

# mount_limited SECONDS
mount_limited() {
	with_parameter $SYSCTL "$1" mount_store
}

setup_file() {
	export S=$BATS_FILE_TMPDIR/store M=$BATS_FILE_TMPDIR/mq
	mkdir -p "$M"
	OBSTACLE=$(obstacle)
	[ -n "$OBSTACLE" ] || OBSTACLE=$(no_sysctl)
	export OBSTACLE
	[ -n "$OBSTACLE" ] || mount_limited 15 || { cat "$BATS_FILE_TMPDIR/said"; return 1; }
}

# Reads once, as read(2) does: Python's own would read again after EINTR.
read_once='
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(sys.argv[1], os.O_RDONLY)
buffer = ctypes.create_string_buffer(4096)
begin = time.monotonic()
got = libc.read(fd, buffer, 4096)
took = time.monotonic() - begin
print(os.strerror(ctypes.get_errno()) if got < 0 else got, "early" if took < 4 else "late" if took > 14 else "in time")
'

@test "a read that waits is interrupted before the kernel ends the mount; who reads again gets his message" {
	local readers='' i
	topic
	for i in 1 2 3; do
		group "g$i"
	done
	timeout "$LIMIT_S" python3 -c "$read_once" "$M/status/events" >"$BATS_TEST_TMPDIR/event" 3>&- &
	readers="$readers $!"
	timeout "$LIMIT_S" cat groups/g1/wait >"$BATS_TEST_TMPDIR/cat" 3>&- &
	readers="$readers $!"
	timeout "$LIMIT_S" dash -c 'read -r line <groups/g2/stream; echo "$line"' >"$BATS_TEST_TMPDIR/dash" 3>&- &
	readers="$readers $!"
	run timeout "$LIMIT_S" python3 -c "$read_once" groups/g3/wait
	is "$output" 'Interrupted system call in time'
	echo hello >>in
	for i in $readers; do
		wait "$i"
	done
	is "$(cat "$BATS_TEST_TMPDIR/cat")" hello
	is "$(cat "$BATS_TEST_TMPDIR/dash")" hello
	is "$(cat "$BATS_TEST_TMPDIR/event")" 'Interrupted system call in time'
	is "$(cat groups/g3/next)" hello
}

@test "status/errors says which limit there is" {
	grep -q 'ETIMEDOUT .*fs.fuse.default_request_timeout .* longer than 15 s: a read that waits is interrupted (EINTR) after 5000 ms$' "$M/status/errors"
}

@test "a reader that is killed while it waits, and one whose mount ends: nothing hangs" {
	topic
	group
	cat groups/g/wait 3>&- &
	local reader=$!
	blocked "$reader"
	kill -KILL "$reader"
	wait "$reader" || true
	cat groups/g/stream 3>&- &
	reader=$!
	local daemon
	daemon=$(daemon_pid)
	cd /
	kill -TERM "$daemon"
	wait_gone "$daemon"
	wait "$reader" || true
	mount_store
	[ ! -s "$M/status/errors" ]
}
