#!/usr/bin/env bats
# The fast path of a producer: writes go to a staging file of the store, past the daemon. What counts is that nobody can
# tell, but for the speed. Skipped where the kernel or libfuse cannot do it.
load helpers

setup() {
	[ -z "$OBSTACLE" ] || skip "$OBSTACLE"
	grep -q '^producing.* staged' "$M/status/version" || skip "no passthrough: $(grep ^producing "$M/status/version")"
	T=
}

teardown() {
	cd /
	# shellcheck disable=SC2046 # each is a word
	[ -z "$(jobs -p)" ] || kill -KILL $(jobs -p) 2>/dev/null || true
	local dir
	for dir in mnt disk overover over below; do
		not grep -q " $BATS_TEST_TMPDIR/$dir " /proc/self/mountinfo || umount -l "$BATS_TEST_TMPDIR/$dir"
	done
}

# staged - a staging file is in use by somebody.
staged() {
	[ -n "$(find "$S/staging" -type f -size +0)" ]
}

# numbers FILE COUNT - the file is the numbers from 1 on, each once and in order.
numbers() {
	seq 1 "$2" | cmp - "$1"
}

check_each_reader() {
	group
	echo 60000 >config/linger.ms
	in_shell 'set -e; exec 5>>in; echo 1 >&5
		[ "$(cat 0/log)" = 1 ]; echo 2 >&5
		[ "$(stat -c %s .)" = 2 ]; echo 3 >&5
		[ "$(cat 0/at/2)" = 3 ]; echo 4 >&5
		[ "$(cat groups/g/out | tail -n 1)" = 4 ]; echo 5 >&5
		[ "$(sed -n "s/^messages //p" info)" = 5 ]; echo 6 >&5
		[ "$(stat -c %s groups/g)" = 6 ]; echo 7 >&5
		[ "$(stat -c %s 0/log)" = 14 ]; echo 8 >&5
		echo latest >groups/g/offset; [ "$(cat groups/g/offset)" = "0 8" ]; echo 9 >&5
		[ "$(cat groups/g/next)" = 9 ]; echo all >groups/g/ack; echo 10 >&5
		[ "$(cat groups/g/wait)" = 10 ]; echo 11 >&5
		grep -q "^mqfs_topic_messages{topic=\"$(basename "$PWD")\"} 11$" ../../status/metrics || grep "$(basename "$PWD").* 11" ../../status/metrics; echo 12 >&5
		[ "$(ls -l .. | awk -v t="$(basename "$PWD")" "\$9 == t { print \$5 }")" = 12 ]; echo 13 >&5
		[ "$(ls 0/at | tail -n 1)" -ge 12 ]; echo 14 >&5
		[ "$(tail -n 1 0/log.json | grep -c "\"offset\":13")" = 1 ]; echo 15 >&5
		echo "before 3" >0/purge; [ "$(stat -c %s .)" = 12 ]; echo 16 >&5
		echo 17 >in; [ "$(tail -n 2 0/log)" = "16
17" ]; printf 18 >&5; exec 5>&-; [ "$(tail -n 1 0/log)" = 18 ]'
	is "$(messages)" 15
}
@test "who writes and then reads finds what it wrote, whatever it reads, with linger.ms of a minute (bash, dash)" {
	each_shell check_each_reader
}

# wait_for TEXT COMMAND... - a reader of g that waits gets TEXT from COMMAND, though nothing is closed or synced.
wait_for() {
	local text=$1 reader
	shift
	cat groups/g/wait >"$BATS_TEST_TMPDIR/got" 3>&- 5>&- 6>&- &
	reader=$!
	blocked $reader
	"$@"
	wait $reader
	is "$(cat "$BATS_TEST_TMPDIR/got")" "$text"
	echo all >groups/g/ack
}

write_five() {
	echo "$1" >&5
}

write_newly_opened() {
	exec 6>>in
	echo "$1" >&6
}

@test "what lingers does not for a reader that waits, whatever linger.ms says" {
	topic
	group
	echo 60000 >config/linger.ms
	exec 5>>in
	wait_for one write_five one     # it was just opened
	wait_for two write_five two     # it was written to a moment ago
	sleep 0.5                       # the daemon has stopped looking
	wait_for three write_five three
	wait_for four write_newly_opened four
	for i in $(seq 20); do
		wait_for "$i" write_five "$i"
	done
	exec 5>&- 6>&-
}

@test "linger.ms changed while a channel is open takes effect at once, on it and on the next" {
	topic
	group
	echo 60000 >config/linger.ms
	exec 5>>in
	echo one >&5
	echo 5 >config/linger.ms
	t cat groups/g/wait 5>&-
	echo 0 >config/linger.ms
	echo all >groups/g/ack
	echo two >&5
	is "$(t cat groups/g/wait 5>&-)" two
	exec 6>>in
	echo three >&6
	echo four >&5
	log_is one two three four
	exec 5>&- 6>&-
}

@test "eight producers at once: every line is there, whole, and in each one's order" {
	topic 2
	local pids=() p
	for p in 1 2 3 4 5 6 7 8; do
		bash -c 'for i in $(seq 2000); do echo "'$p' $i"; done >>in' 3>&- &
		pids+=($!)
	done
	wait "${pids[@]}"
	is "$(messages)" 16000
	for p in 1 2 3 4 5 6 7 8; do
		is "$(cat 0/log 1/log | grep -c "^$p ")" 2000
		for part in 0 1; do
			grep "^$p " $part/log | cut -d' ' -f2 | sort -nc
		done
	done
}

# A writer that counts what it could write, and does not care what happens to the daemon.
counting_writer() {
	rm -f "$BATS_TEST_TMPDIR/written"
	bash -c 'exec 5>>in; i=0; while ! [ -e '"$BATS_TEST_TMPDIR/stop"' ] && echo $((i + 1)) >&5; do i=$((i + 1)); echo $i >&6; done' \
		6>"$BATS_TEST_TMPDIR/written" 3>&- 2>/dev/null &
	writer=$!
}

written() {
	cat "$BATS_TEST_TMPDIR/written" 2>/dev/null | wc -l
}

at_least() {
	[ "$(written)" -ge "$1" ]
}

@test "kill -9 of the daemon, again and again, while a writer goes on: nothing is lost, nothing doubled" {
	topic
	local round goal
	for round in 1 2 3; do
		echo all >purge
		rm -f "$BATS_TEST_TMPDIR/stop"
		counting_writer
		eventually at_least $((RANDOM % 2000 + 100))
		crash
		goal=$(($(written) + 500))
		eventually at_least $goal # into the file of a mount that is gone
		is "$(head -n 100 0/log | tail -n 1)" 100
		[ $round = 2 ] || crash # and once more, with the writer still there
		goal=$(($(written) + 500))
		eventually at_least $goal
		touch "$BATS_TEST_TMPDIR/stop"
		wait $writer || true
		local count
		count=$(written)
		numbers 0/log "$count" || { echo "$count written, $(wc -l <0/log) there"; return 1; }
		eventually not staged
		numbers 0/log "$count"
	done
}

@test "SIGTERM and umount -l with a writer: it goes on, and the next mount has all of it" {
	topic
	counting_writer
	eventually at_least 200
	local pid
	pid=$(daemon_pid)
	cd /
	kill -TERM "$pid"
	wait_gone "$pid"
	eventually at_least $(($(written) + 200))
	mount_store
	cd "$T"
	eventually at_least $(($(written) + 200))
	touch "$BATS_TEST_TMPDIR/stop"
	wait $writer || true
	numbers 0/log "$(written)"
	rm "$BATS_TEST_TMPDIR/stop"
	echo all >purge
	counting_writer
	eventually at_least 200
	cd /
	pid=$(daemon_pid)
	umount -l "$M"
	eventually at_least $(($(written) + 200))
	touch "$BATS_TEST_TMPDIR/stop"
	wait $writer || true
	wait_gone "$pid"
	mount_store
	cd "$T"
	numbers 0/log "$(written)"
}

check_killed() {
	run in_shell 'exec 5>>in; printf "whole\nhalf" >&5; kill -KILL $$'
	run in_shell '{ sh -c "printf lost; kill -KILL \$\$"; } >>in'
	in_shell 'exec 5>>in; printf "keep" >&5; sleep 0.1; sh -c "echo something longer than that >/dev/null; kill -9 \$\$" || :; echo " this" >&5'
	in_shell 'exec 5>>in; sh -c "printf lost >&5; kill -9 \$\$" || :; echo next >&5'
	eventually not grep -q half 0/log
	log_is whole 'keep this' next
}
@test "a killed writer takes its half message with it, and not that of another holder (bash, dash)" {
	each_shell check_killed
}

@test "too long: dropped and told by fsync and in status/errors, the good ones around it stay" {
	topic
	echo 10 >config/max.message.bytes
	t python3 -c '
import errno, os
fd = os.open("in", os.O_WRONLY | os.O_APPEND)
os.write(fd, b"one\n" + b"x" * 11 + b"\ntwo\n")
try:
    os.fsync(fd)
    raise SystemExit("fsync does not tell")
except OSError as e:
    assert e.errno == errno.EMSGSIZE, e
os.write(fd, b"three\n")
os.fsync(fd)
os.write(fd, b"y" * 1000)
os.write(fd, b"y" * 1000 + b"\nfour\n")
try:
    os.close(fd)
    raise SystemExit("close does not tell")
except OSError as e:
    assert e.errno == errno.EMSGSIZE, e
'
	told EMSGSIZE max.message.bytes
	log_is one two three four
}

@test "a gibibyte without a newline costs neither memory nor, for long, the disk, and is told once" {
	topic
	echo before >>in
	{ head -c 1G /dev/zero | tr '\0' x 2>/dev/null; printf '\nafter\n'; } >>in || true # tr's close tells
	log_is before after
	is "$(grep -c "${T##*/}: dropped 1 message" "$M/status/errors")" 1
	[ "$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$(daemon_pid)/status")" -lt 200000 ]
	[ "$(du -sk "$S/staging" | cut -f1)" -lt 20000 ]
}

@test "in.nul, keys/KEY and N/in linger too, and give what they give without" {
	topic 3
	echo 60000 >config/linger.ms
	printf 'a\nb\0c\0d' >>in.nul
	printf 'one\ntwo\n' >>keys/k
	echo there >>2/in
	is "$(messages)" 6
	is "$(cat 2/log | grep -c there)" 1
	is "$(cat 0/log.json 1/log.json 2/log.json | jq -r 'select(.key == "k").payload' | tr '\n' ' ')" 'one two '
	is "$(cat 0/log.json 1/log.json 2/log.json | jq -c 'select(.payload == "a\nb").uid')" "$(id -u)"
}

@test "every odd way to write to a lingering channel appends, and nothing tears a message" {
	topic
	seq 1 5 >"$BATS_TEST_TMPDIR/lines"
	t python3 -c '
import ctypes, errno, fcntl, os
def refused(what, *errnos):
    try:
        what()
    except OSError as e:
        assert e.errno in errnos, e
        return
    raise SystemExit("accepted")
fd = os.open("in", os.O_WRONLY | os.O_APPEND)
os.write(fd, b"a\n")
os.lseek(fd, 0, os.SEEK_SET)
os.write(fd, b"b\n")
os.pwrite(fd, b"c\n", 0)
os.pwritev(fd, [b"d", b"\n"], 1, 0)
fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_APPEND)
os.pwrite(fd, b"e\n", 0)
source = os.open("'"$BATS_TEST_TMPDIR"'/lines", os.O_RDONLY)
os.sendfile(fd, source, 0, 4)
read, write = os.pipe()
os.write(write, b"3\n4\n")
os.splice(read, fd, 4)
try:
    os.copy_file_range(source, fd, 2, 8)
except OSError as e:
    assert e.errno in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL), e
    os.write(fd, b"5\n")
assert ctypes.CDLL(None).fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(100000)) == -1
refused(lambda: os.read(fd, 1), errno.EBADF)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_ssize_t
assert libc.mmap(None, ctypes.c_size_t(4096), 2, 1, fd, ctypes.c_long(0)) == -1
try:
    os.ftruncate(fd, 0)
except OSError:
    pass
try:
    os.truncate("in", 0)
except OSError:
    pass
assert os.fstat(fd).st_size == 0
again = "/proc/self/fd/%d" % fd
refused(lambda: os.open(again, os.O_RDWR), errno.EBUSY)
read = os.open(again, os.O_RDONLY)
os.fsync(read)
os.close(read)
os.write(fd, b"last")
os.close(fd)
'
	log_is a b c d e 1 2 3 4 5 last
}

check_stdout_again() {
	in_shell '{ echo one; echo two >/dev/stdout; echo three; cat <<-END >/dev/stdout
		four
	END
	printf five; } >>in'
	log_is one two three four five
}
@test "the same file opened again through /dev/stdout: all in the order it was written (bash, dash)" {
	each_shell check_stdout_again
}

@test "fsync of one handle confirms what others have written, and the log is synced before it returns" {
	topic
	exec 5>>in
	echo one >&5
	sync in
	log_is one
	exec 5>&-
}

@test "a topic removed while a writer lingers: what it writes is told of, and nothing of it stays" {
	topic
	cd /
	t bash -c "exec 5>>$T/in; rmdir $T; echo x >&5"
	eventually told EIDRM ''
	eventually not staged
}

@test "a disk that fills up under a lingering writer: what was taken is whole and in order, and the writer was told" {
	local disk=$BATS_TEST_TMPDIR/disk mnt=$BATS_TEST_TMPDIR/mnt
	mkdir "$disk" "$mnt"
	mount -t tmpfs -o size=64m,mode=700 tmpfs "$disk"
	S=$disk M=$mnt mount_store
	mkdir "$mnt/topics/t"
	run t python3 -c '
import errno, os
fd = os.open("'"$mnt"'/topics/t/in", os.O_WRONLY | os.O_APPEND)
i = 0
try:
    while True:
        line = b"%d %s\n" % (i, b"x" * 1900)
        if os.write(fd, line) != len(line):
            break
        i += 1
except OSError as e:
    assert e.errno == errno.ENOSPC, e
print(i)
try:
    os.close(fd)
except OSError as e:
    assert e.errno == errno.ENOSPC, e
'
	echo "$output"
	local count=$output there
	there=$(stat -c %s "$mnt/topics/t")
	is "$(tail -n 1 "$mnt/topics/t/0/log" | wc -c)" "$(printf '%s %01900d\n' $((there - 1)) 0 | wc -c)"
	cut -d' ' -f1 "$mnt/topics/t/0/log" | cmp - <(seq 0 $((there - 1)))
	# What could not be taken in for want of room comes when there is some.
	echo "before $((there / 2))" >"$mnt/topics/t/0/purge"
	eventually test "$(stat -c %s "$mnt/topics/t")" = $((count - there / 2))
	is "$(tail -n 1 "$mnt/topics/t/0/log" | cut -d' ' -f1)" $((count - 1))
	local pid
	pid=$(cat "$disk/lock")
	umount "$mnt"
	wait_gone "$pid"
	umount "$disk"
}

@test "nostaging and linger.ms 0: every write goes through the daemon, and no staging file is made" {
	topic
	echo 0 >config/linger.ms
	eventually not staged
	exec 5>>in
	echo one >&5
	not staged
	exec 5>&-
	remount -o nostaging
	is "$(sed -n 's/^producing //p' "$M/status/version")" direct
	echo 5 >config/linger.ms
	exec 5>>in
	echo two >&5
	not staged
	log_is one two
	exec 5>&-
	remount
}

# overlay LOWER OVER - mounts an overlay whose upper part is on the tmpfs below; skips the test where that cannot be.
overlay() {
	local below=$BATS_TEST_TMPDIR/below
	mkdir -p "$below/$2.upper" "$below/$2.work" "$BATS_TEST_TMPDIR/$2"
	mount -t overlay -o "lowerdir=$1,upperdir=$below/$2.upper,workdir=$below/$2.work" overlay "$BATS_TEST_TMPDIR/$2" ||
		skip 'no overlay can be mounted here'
}

# store_on DIRECTORY TEXT - writes pass the daemon or not, as status/version says after the first; either way they are there.
store_on() {
	local mnt=$BATS_TEST_TMPDIR/mnt store=$1/store-${1##*/} pid
	S=$store M=$mnt mount_store
	mkdir "$mnt/topics/t"
	is "$(sed -n 's/^producing //p' "$mnt/status/version")" 'direct staged'
	echo one >>"$mnt/topics/t/in"
	is "$(sed -n 's/^producing //p' "$mnt/status/version")" "$2"
	echo two >>"$mnt/topics/t/in"
	printf three >>"$mnt/topics/t/in"
	is "$(cat "$mnt/topics/t/0/log")" "$(printf 'one\ntwo\nthree')"
	is "$(cat "$mnt/status/errors")" ''
	pid=$(cat "$store/lock")
	umount "$mnt"
	wait_gone "$pid"
}

@test "a store on an overlay of overlays: the kernel refuses its files for good, every open succeeds, status/version says which way writes go" {
	local below=$BATS_TEST_TMPDIR/below
	mkdir "$below" "$BATS_TEST_TMPDIR/mnt"
	mount -t tmpfs -o size=64m,mode=700 tmpfs "$below"
	mkdir "$below/lower"
	overlay "$below/lower" over
	store_on "$BATS_TEST_TMPDIR/over" 'direct staged'
	overlay "$BATS_TEST_TMPDIR/over" overover
	store_on "$BATS_TEST_TMPDIR/overover" 'direct: the kernel takes no backing file (ELOOP)'
	umount "$BATS_TEST_TMPDIR/overover" "$BATS_TEST_TMPDIR/over" "$below"
}

@test "after all writers have closed, staging files take no room, and a clean end leaves none" {
	topic
	seq 1 100000 >>in
	is "$(messages)" 100000
	eventually not staged
	cd /
	unmount
	is "$(find "$S/staging" -type f | wc -l)" 0
	mount_store
}

# ------------------------------------------------------------------------------------------ queues

check_each_queue_reader() {
	echo 60000 >config/linger.ms
	in_shell 'set -e; exec 5>>in 6>>priority/7/in; echo 1 >&5
		[ "$(cat next)" = 1 ]; echo 2 >&5
		[ "$(cat wait)" = 2 ]; echo 3 >&5; echo 4 >&5
		[ "$(cat out)" = "3
4" ]; echo 5 >&5
		[ "$(cat take)" = 5 ]; echo 6 >&5
		[ "$(ls ready | wc -l)" = 1 ]; echo 7 >&5
		[ "$(stat -c %s ready)" = 2 ]; echo 8 >&5
		[ "$(sed -n "s/^ready //p" info)" = 3 ]; echo 9 >&5
		[ "$(ls -l .. | awk -v q="$(basename "$PWD")" "\$9 == q { print \$5 }")" = 4 ]; echo 10 >&5
		grep "$(basename "$PWD").* 5$" ../../status/metrics >/dev/null; echo first >&6
		[ "$(cat priority/7/ready/*)" = first ]
		[ "$(cat next)" = first ]; echo all >purge
		[ "$(ls ready | wc -l)" = 0 ]; echo 11 >&5; echo all >purge; [ "$(stat -c %s .)" = 0 ]; echo 12 >&5
		echo 13 >in; printf 14 >&5; exec 5>&- 6>&-
		[ "$(cat out)" = "12
13
14" ]'
}
@test "queues: who writes and then reads finds what it wrote, whatever it reads, with linger.ms of a minute (bash, dash)" {
	each_shell_queue check_each_queue_reader
}

# queue_wait TEXT COMMAND... - a consumer that waits gets TEXT from COMMAND, though nothing is closed or synced.
queue_wait() {
	local text=$1 reader
	shift
	cat wait >"$BATS_TEST_TMPDIR/got" 3>&- 5>&- 6>&- &
	reader=$!
	blocked $reader
	"$@"
	wait $reader
	is "$(cat "$BATS_TEST_TMPDIR/got")" "$text"
}

@test "queues: what lingers does not for a consumer that waits, nor for ever" {
	queue
	echo 60000 >config/linger.ms
	echo yes >config/auto.ack
	exec 5>>in
	queue_wait one write_five one
	queue_wait two write_five two
	sleep 0.5 # the daemon has stopped looking
	queue_wait three write_five three
	queue_wait four write_newly_opened four
	for i in $(seq 20); do
		queue_wait "$i" write_five "$i"
	done
	staged
	cat stream >"$BATS_TEST_TMPDIR/stream" 3>&- 5>&- 6>&- &
	local stream=$!
	blocked $stream
	seq 1000 >&5
	eventually numbers "$BATS_TEST_TMPDIR/stream" 1000
	kill $stream
	wait $stream || true
	echo 5 >config/linger.ms
	echo late >&5
	is "$(t cat take)" late
	exec 5>&- 6>&-
}

@test "queues: in, in.nul and priority/N/in linger; head, in.json, put/, O_SYNC, a transaction, and where a write may be refused, do not" {
	queue
	eventually not staged
	echo plain >>in
	not staged # linger.ms is 0
	echo 60000 >config/linger.ms
	echo head >>./head
	echo '{"payload":"json"}' >>in.json
	echo put >put/name
	dd if=/dev/zero of=in bs=1 count=1 oflag=append,sync conv=notrunc status=none
	mkdir "$M/tx/lingers"
	echo tx >>"$M/tx/lingers/queues/${Q##*/}/in"
	not staged
	echo commit >"$M/tx/lingers/state"
	rmdir "$M/tx/lingers"
	is "$(stat -c %s ready)" 6
	echo all >purge
	echo 1 >config/max.length
	echo reject-publish >config/overflow
	echo one >>in
	not staged
	fails EDQUOT bash -c 'exec 5>>in; echo two >&5'
	echo drop-head >config/overflow
	exec 5>>in 6>>priority/5/in.nul
	staged
	printf 'high\nest\0' >&6
	echo low >&5
	fails EBUSY bash -c 'echo reject-publish-dlx >config/overflow'
	is "$(cat config/overflow)" drop-head
	is "$(cat dlq/ready/*)" onelow
	is "$(cat take.raw)" "$(printf 'high\nest')"
	exec 5>&- 6>&-
	echo reject-publish-dlx >config/overflow
}

# drained COUNT - the queue gives the numbers from 1 on, each once and in order.
drained() {
	: >"$BATS_TEST_TMPDIR/drained"
	while [ "$(stat -c %s ready)" != 0 ]; do
		cat out >>"$BATS_TEST_TMPDIR/drained"
	done
	numbers "$BATS_TEST_TMPDIR/drained" "$1" || { echo "$1 written, $(wc -l <"$BATS_TEST_TMPDIR/drained") there"; return 1; }
}

@test "queues: kill -9 of the daemon, again and again, while a writer goes on: nothing is lost, nothing doubled" {
	queue
	echo 5 >config/linger.ms
	echo yes >config/auto.ack
	echo 100000 >config/prefetch
	local round goal count
	for round in 1 2 3; do
		rm -f "$BATS_TEST_TMPDIR/stop"
		cd priority/3
		counting_writer
		cd ../..
		eventually at_least $((RANDOM % 2000 + 100))
		crash
		goal=$(($(written) + 500))
		eventually at_least $goal # into the file of a mount that is gone
		[ $round = 2 ] || crash # and once more, with the writer still there
		goal=$(($(written) + 500))
		eventually at_least $goal
		touch "$BATS_TEST_TMPDIR/stop"
		wait $writer || true
		count=$(written)
		eventually not staged
		is "$(stat -c %s priority/3/ready)" "$count"
		drained "$count"
	done
}

check_queue_confirmed() {
	echo 60000 >config/linger.ms
	in_shell 'exec 5>>in; echo confirmed >&5; sync in; echo written >&5; mv "$PWD" "$PWD.new"; echo renamed >&5'
	mv "$Q.new" "$Q"
	crash
	is "$(t cat out)" "$(printf 'confirmed\nwritten\nrenamed')"
	in_shell 'exec 5>>in; printf "whole\nhalf" >&5; kill -KILL $$' || true
	eventually test "$(stat -c %s ready)" = 1
	is "$(cat take)" whole
	in_shell 'exec 5>>in; echo kept >&5; ! rmdir "$PWD" 2>/dev/null'
	is "$(cat take)" kept
}
@test "queues: sync confirms, a rename changes nothing, a half message goes with who is killed, a queue with staged messages is not empty (bash, dash)" {
	each_shell_queue check_queue_confirmed
}

@test "queues: too long is dropped and told by fsync, and a queue that is removed under a writer tells him" {
	queue
	echo 60000 >config/linger.ms
	echo 10 >config/max.message.bytes
	t python3 -c '
import errno, os
fd = os.open("in", os.O_WRONLY | os.O_APPEND)
os.write(fd, b"one\n" + b"x" * 11 + b"\ntwo\n")
try:
    os.fsync(fd)
    raise SystemExit("fsync does not tell")
except OSError as e:
    assert e.errno == errno.EMSGSIZE, e
'
	told EMSGSIZE max.message.bytes
	is "$(cat out)" "$(printf 'one\ntwo')"
	echo all >purge
	cd /
	t bash -c "exec 5>>$Q/in; for f in $Q/unacked/*; do rm \$f; done; rmdir $Q; echo x >&5"
	eventually told EIDRM ''
	eventually not staged
}

# What is open while a checkpoint syncs all logs, 120 topics and as many queues: prints how many lines each got.
hold_open() {
	t python3 - "$few" "$BATS_TEST_TMPDIR/few/journal" "$1" <<'END'
import os, sys
few, journal, shell = sys.argv[1:]
paths = ["%s/%s/%s%d/in" % (few, kind, shell, i) for i in range(120) for kind in ("topics", "queues")]
files = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in paths]
put = [os.open("%s/queues/%s0/put/%d" % (few, shell, i), os.O_WRONLY | os.O_CREAT) for i in range(20)]
number, before = 3, os.listdir(journal)
while os.listdir(journal) == before or number < 6:
    number += 1
    for fd in files:
        os.write(fd, b"%d %s\n" % (number, 8000 * b"x"))
        os.fsync(fd)
for fd in put:
    os.write(fd, b"file\n")
for fd in put + files:
    os.close(fd)
print(number)
END
}

check_few_descriptors() {
	local i count
	for ((i = 0; i < 120; i++)); do echo "$few/topics/$1$i"; echo "$few/queues/$1$i"; done | xargs mkdir
	# shellcheck disable=SC2016 # for that shell
	M=$few t "$1" -c 'set -e
		for round in 1 2 3; do
			i=0
			while [ $i -lt 120 ]; do
				echo $round >>"$M/topics/$0$i/in"; echo $round >>"$M/queues/$0$i/in"
				i=$((i + 1))
			done
		done' "$1"
	count=$(hold_open "$1")
	for ((i = 0; i < 120; i++)); do
		is "$(cut -d ' ' -f 1 "$few/topics/$1$i/0/log")" "$(seq "$count")"
		is "$(sed -n 's/^ready //p' "$few/queues/$1$i/info")" $((count + (i == 0 ? 20 : 0)))
	done
}

@test "a daemon with few descriptors takes what is written to more topics and queues than it has (bash, dash)" {
	local few=$BATS_TEST_TMPDIR/mnt shell
	mkdir "$few"
	(ulimit -n 256 && exec "$MQFS_PROGRAM" "$BATS_TEST_TMPDIR/few" "$few" </dev/null 3>&- 4>&-)
	for shell in $SHELLS; do
		check_few_descriptors "$shell"
	done
	is "$(cat "$few/status/health")" 'state ok'
	is "$(cat "$few/status/errors")" ''
	umount "$few"
}

# fail_sync - of the log that has the message "one-OBJECT"; done when health tells.
fail_sync() {
	local strace
	strace -q -f -e trace=fsync,fdatasync -e inject=fsync,fdatasync:error=EIO -P "$(grep -l "^one-${T##*/}$" "$S"/logs/*/*.data)" -p "$(daemon_pid)" 2>/dev/null 3>&- 5>&- 6>&- & # who traces the daemon must not close what is its own
	strace=$!
	eventually grep -q 'TracerPid:.*[1-9]' "/proc/$(daemon_pid)/status" || skip 'strace may not trace'
	head -c 3000000 /dev/zero | tr '\0' x >"$BATS_TEST_TMPDIR/long" # so much is not synced by way of the journal
	{ echo two; cat "$BATS_TEST_TMPDIR/long"; echo; } | t dd of=in bs=1M oflag=append conv=notrunc,fsync iflag=fullblock status=none 2>/dev/null || true
	eventually grep -q "^reason.*${T##*/}.*takes no more messages" "$M/status/health" || { kill "$strace"; return 1; }
	kill "$strace"
	wait "$strace" || true
}

refused_after_failed_sync() {
	exec 5>>in 6>>in
	echo "one-${T##*/}" >>in
	cat info >/dev/null # and it is in the log
	fail_sync
	fails EIO bash -c 'echo three >>in'
	told EIO 'its disk failed'
	not in_shell 'echo three >>in' 2>/dev/null
	not in_shell 'echo "{\"payload\":\"three\"}" >>in.json' 2>/dev/null
	told EIO 'its disk failed'
	run t python3 -c 'import os; os.write(5, b"four\n"); os.close(5)' # who writes to a file does not hear of it, who closes it does
	[[ $output == *OSError* ]]
	told EROFS 'its disk failed'
	exec 5>&- 6>&-
	remount
	echo five >>in
	is "$(payloads_of "$1")" "one-${T##*/} two four five "
}

# payloads_of FILE - all that is in the log or the queue
payloads_of() {
	grep -v xxx "$1" | tr '\n' ' '
}

check_failed_log() {
	refused_after_failed_sync 0/log
}

check_failed_queue() {
	echo 20 >config/linger.ms
	refused_after_failed_sync out
}

@test "where a sync has failed, opening in is EIO, and so does a close tell what is open; what was written is kept (bash, dash)" {
	command -v strace >/dev/null || skip 'no strace'
	each_shell check_failed_log
}

@test "queues: where a sync has failed, opening in is EIO (bash, dash)" {
	command -v strace >/dev/null || skip 'no strace'
	each_shell_queue check_failed_queue
}
