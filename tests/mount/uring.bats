# Requests by io_uring (-o io_uring): what differs from a read of /dev/fuse. With MQFS_TEST_OPTIONS=io_uring all other files here run so too.
# The kernel's switch is set for the moment of mounting, and put back.
# shellcheck disable=SC2317 # called by bats

load helpers
PARAMETER=/sys/module/fuse/parameters/enable_uring

# mount_ring [SWITCH [OPTION...]]
mount_ring() {
	local switch=${1:-Y}
	[ $# = 0 ] || shift
	MQFS_TEST_OPTIONS='' with_parameter $PARAMETER "$switch" mount_store -o io_uring "$@"
}

no_ring() {
	if ! [ -e $PARAMETER ]; then
		echo 'the kernel has no FUSE over io_uring (Linux 6.14)'
	elif ! can_set $PARAMETER; then
		echo "$PARAMETER cannot be set"
	fi
}

setup_file() {
	export S=$BATS_FILE_TMPDIR/store M=$BATS_FILE_TMPDIR/mq
	mkdir -p "$M"
	OBSTACLE=$(obstacle)
	[ -n "$OBSTACLE" ] || OBSTACLE=$(no_ring)
	export OBSTACLE
	[ -n "$OBSTACLE" ] || mount_ring || { cat "$BATS_FILE_TMPDIR/said"; return 1; }
}

requests() {
	sed -n 's/^requests //p' "$M/status/version"
}

@test "the mount says that requests come by io_uring" {
	is "$(requests)" io_uring
}

# processors - the first two that there are, or the test is skipped
processors() {
	read -r first second _ < <(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)))')
	[ -n "$second" ] || skip 'there is one processor'
	chrt -f 1 true 2>/dev/null || skip 'no real-time priority can be had'
}

# Closes on one processor, with half a line, and keeps that from doing anything else until somebody has looked on another.
close_and_look='
import mmap, os, sys, time
here, there, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
closed, looked, shared = 0, 1, mmap.mmap(-1, 4096)
ROUNDS = 20
if os.fork() == 0:
    os.sched_setaffinity(0, {there})
    for i in range(1, ROUNDS + 1):
        while shared[closed] < i:
            pass
        with open("0/log", "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 4000))
            found = f"{name}-{i}\n".encode() in log.read()
        shared[looked] = i
        if not found:
            print(f"{name}-{i} was closed, and is not there", flush=True)
            os._exit(1)
    os._exit(0)
os.sched_setaffinity(0, {here})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
for i in range(1, ROUNDS + 1):
    fd = os.open("in.nul", os.O_WRONLY)
    os.write(fd, f"{name}-{i}".encode())
    os.close(fd)
    shared[closed] = i
    until = time.monotonic() + 0.02
    while shared[looked] < i and time.monotonic() < until:
        pass
    until = time.monotonic() + 5
    while shared[looked] < i and time.monotonic() < until:
        time.sleep(0.001)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
'

@test "who opens after a close returned finds what it did, on whichever processor" {
	local first second pid
	processors
	topic
	t python3 -c "$close_and_look" "$first" "$second" a
	t python3 -c "$close_and_look" "$second" "$first" b
	# Both at once: each waits for the other's queue.
	t python3 -c "$close_and_look" "$first" "$second" c &
	pid=$!
	t python3 -c "$close_and_look" "$second" "$first" d
	wait $pid
}

@test "a hundred readers wait, and each gets its message" {
	local i pids=''
	queue
	for i in {1..100}; do
		cat wait >"$BATS_TEST_TMPDIR/$i" 3>&- &
		pids="$pids $!"
	done
	for i in $pids; do
		blocked $i
	done
	for i in {1..100}; do echo "m$i" >>in; done
	wait $pids
	is "$(cat "$BATS_TEST_TMPDIR"/[0-9]* | sort -u | wc -l)" 100
}

@test "too many readers on one processor: EDQUOT and a sentence, and everything else goes on; they can be killed" {
	local first pid
	read -r first _ < <(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)))')
	topic
	group
	# Threads that nobody waits for one by one: on a busy processor that takes minutes.
	taskset -c "$first" python3 -c '
import _thread, errno, os, resource, threading, time
resource.setrlimit(resource.RLIMIT_NOFILE, (5000, 5000))
threading.stack_size(65536)
refused = threading.Event()
def wait():
    try:
        os.read(os.open("groups/g/wait", os.O_RDONLY), 100)
    except OSError as error:
        if error.errno == errno.EDQUOT:
            refused.set()
count = 0
while not refused.is_set() and count < 2200:
    _thread.start_new_thread(wait, ())
    count += 1
refused.wait()
print(count, flush=True)
time.sleep(1000)
' >"$BATS_TEST_TMPDIR/count" 3>&- &
	pid=$!
	# shellcheck disable=SC2016 # of the other shell
	LIMIT_S=120 t sh -c 'until [ -s "$1" ]; do sleep 0.05; done' - "$BATS_TEST_TMPDIR/count"
	[ "$(cat "$BATS_TEST_TMPDIR/count")" -gt 400 ]
	grep -q 'EDQUOT.*io_uring' "$M/status/errors"
	t taskset -c "$first" bash -c 'echo x >>in; cat 0/log >/dev/null; ls groups'
	kill -KILL $pid
	wait_gone $pid
	group h
	t taskset -c "$first" timeout 40 cat groups/h/next
}

@test "who waits can be interrupted and killed, at once and later" {
	local i pid
	topic
	group
	run t timeout 0.3 cat groups/g/wait
	is "$status" 124
	run t timeout -s KILL 0.3 cat groups/g/wait
	is "$status" 137
	for i in {1..60}; do
		cat groups/g/wait 3>&- &
		pid=$!
		[ $((i % 3)) != 0 ] || sleep 0.005
		[ $((i % 3)) != 1 ] || blocked $pid
		kill -INT $pid 2>/dev/null || true
		kill -KILL $pid 2>/dev/null || true
		wait_gone $pid 10
	done
	echo still >>in
	is "$(t cat groups/g/next)" still
}

# The kernel does not tell of a signal that comes before it has put the request into the ring; it does that on the processor of the reader,
# which is kept busy meanwhile.
kill_before_taken='
import mmap, os, signal, sys, time
here, there = int(sys.argv[1]), int(sys.argv[2])
opened, busy, shared = 0, 1, mmap.mmap(-1, 4096)
def start(priority, run):
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {here})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        run()
        os._exit(0)
    return pid
def read():
    fd = os.open("groups/g/wait", os.O_RDONLY)
    shared[opened] = 1
    while not shared[busy]:
        time.sleep(0.001)
    os.read(fd, 100)
def spin():
    while not shared[opened]:
        time.sleep(0.001)
    shared[busy] = 1
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
os.sched_setaffinity(0, {there})
reader, spinner = start(10, read), start(5, spin)
while open(f"/proc/{reader}/syscall").read().split()[0] != "0":
    pass
os.kill(reader, signal.SIGKILL)
os.waitpid(spinner, 0)
until = time.monotonic() + 5
while os.waitpid(reader, os.WNOHANG)[0] == 0:
    if time.monotonic() > until:
        os.write(os.open("in", os.O_WRONLY), b"enough\n")
        sys.exit("it was killed and waits")
    time.sleep(0.001)
'

@test "a signal that came before the request was taken ends the wait" {
	local first second
	processors
	topic
	group
	for _ in {1..3}; do
		t python3 -c "$kill_before_taken" "$first" "$second"
	done
}

@test "what takes long goes on beside the rest: confirmed, large, and in any number of processes" {
	local i pids=''
	topic
	for i in {1..8}; do
		t dd if=/dev/zero of=put/$i bs=1M count=1 status=none oflag=dsync &
		pids="$pids $!"
	done
	for i in {1..8}; do
		t bash -c "for j in {1..50}; do echo $i-\$j; done | dd of=in oflag=append,dsync conv=notrunc bs=5 status=none" &
		pids="$pids $!"
	done
	wait $pids
	is "$(tr -d '\0' <0/log | grep -c -- -)" 400
	[ "$(stat -c %s 0/log)" -gt $((8 << 20)) ]
}

@test "kill -9 of the daemon: who waits gets an error, and another takes over with all messages" {
	local reader
	topic
	group
	echo kept >>in
	group h
	t cat groups/h/next >/dev/null
	t cat groups/h/wait 3>&- &
	reader=$!
	t python3 - <<-'END'
		import os
		fd = os.open("in", os.O_WRONLY | os.O_APPEND | os.O_DSYNC)
		os.write(fd, b"sure\n")
	END
	local pid
	pid=$(daemon_pid)
	cd /
	kill -KILL "$pid"
	wait_gone "$pid"
	wait $reader || true
	umount -l "$M"
	mount_ring
	cd "$T"
	log_is kept sure
	is "$(requests)" io_uring
}

@test "SIGTERM while somebody waits ends the mount and the daemon" {
	local reader pid
	topic
	group
	cat groups/g/wait 3>&- &
	reader=$!
	blocked $reader
	cd /
	pid=$(daemon_pid)
	kill -TERM "$pid"
	wait_gone "$pid"
	wait_gone $reader
	mount_ring
}

@test "a kernel where it is switched off: the mount works by /dev/fuse and says so" {
	cd /
	unmount
	mount_ring N
	[[ $(requests) = '/dev/fuse: '*enable_uring* ]]
	topic
	echo works >>in
	log_is works
	cd /
	unmount
	MQFS_TEST_OPTIONS='' mount_store
	is "$(requests)" /dev/fuse
}
