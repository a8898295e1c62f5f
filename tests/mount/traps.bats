# The traps that file systems for messages fall into, by their numbers in the project's list of them. Each is here as short as it
# can be; the other files of this directory go into the details.
load helpers

@test "trap 1: no reader loses, splits or doubles a message: cat, head -c 3, dd bs=4, read, mapfile, python, tail, grep, wc" {
	local shell
	topic
	group
	seq 1 300 >>in
	cd groups/g
	is "$(t cat out | md5sum)" "$(seq 1 300 | md5sum)"
	is "$(t head -c 3 next | od -An -c)" "$(printf '1\n' | od -An -c)"
	t dd if=out bs=4 status=none | cmp - ../../0/log
	for shell in $SHELLS; do
		is "$(t "$shell" -c 'while read -r m; do echo "$m"; [ "$m" = 300 ] && break; done <stream' | md5sum)" "$(seq 1 300 | md5sum)"
	done
	mapfile -t all <out
	is "${#all[@]} ${all[299]}" '300 300'
	is "$(t python3 -c 'print(sum(int(line) for line in open("out")))')" 45150
	is "$(t tail -n 1 out) $(t grep -c 7 out) $(t wc -l <out)" "300 $(seq 1 300 | grep -c 7) 300"
	# One after the other, with acks between: each message exactly once. (A group of its own: all was given to the first.)
	cd ../..
	group h
	cd groups/h
	local seen=
	for shell in 1 2 3; do
		seen+="$(t cat next),"
		echo all >ack
		seen+="$(t head -c 3 next | head -n 1),"
		echo all >ack
		seen+="$(t dd if=next bs=1 status=none),"
		echo all >ack
		read -r m <next
		seen+="$m,"
		echo all >ack
	done
	is "$seen" 1,2,3,4,5,6,7,8,9,10,11,12,
}

@test "trap 2: the same script makes the same messages in bash and in dash" {
	local shell results=()
	for shell in $SHELLS; do
		topic
		t "$shell" -c 'printf "a\nb\n" >>in; printf c >>in; { printf a; /bin/true; printf "b\n"; } >>in; echo "d
e" >>in; for i in 1 2 3; do echo $i; done >>in; { echo x & wait; printf y; } >>in; echo "$(seq 1 30000)" >>in'
		is "$(sed -n 4p 0/log)" ab
		results+=("$(messages) $(md5sum <0/log)")
	done
	is "${results[0]}" "${results[1]}"
	is "${results[0]%% *}" 30011
}

full_check() {
	local script
	echo reject-publish >config/overflow
	echo 2 >config/max.length
	in_shell 'echo 1 >> in; echo 2 >> in'
	for script in 'echo x >> in' 'echo x > in' 'printf x >> in' 'echo x >> head' 'echo x >> priority/9/in' 'echo x > put/f' 'exec 3>>in; echo x >&3' \
		'seq 5 | while read -r x; do echo "$x" || exit 7; done >> in'; do
		run in_shell "$script"
		echo "$SHELL_NAME: $script: $status $output"
		[ "$status" != 0 ]
		told EDQUOT "the queue ${Q##*/} is full"
	done
	is "$(payloads ready)" '1 2 '
}

too_long_check() {
	local script
	echo 3 >config/max.message.bytes
	# What lingers is told of at close, and in status/errors.
	in_shell 'echo 1234 >> in' || true
	told EMSGSIZE 'max.message.bytes'
	log_is
	echo 0 >config/linger.ms
	for script in 'echo 1234 >> in' 'echo 1234 >> 0/in' 'echo 1234 >> keys/k' 'echo 1234 > put/f' 'printf 1234 >> in'; do
		run in_shell "$script"
		echo "$SHELL_NAME: $script: $status $output"
		[ "$status" != 0 ]
		told EMSGSIZE 'max.message.bytes'
	done
	log_is
}

@test "trap 3: a full queue, or a message that is too long: the write itself fails in bash and in dash" {
	each_shell_queue full_check
	each_shell too_long_check
	queue
	echo reject-publish >config/overflow
	echo 1 >config/max.length
	echo 1 >>in
	is "$(bash -c 'echo x >> in' 2>&1)" 'bash: line 1: echo: write error: Disk quota exceeded'
	is "$(python3 -c 'print("x", file=open("in", "a", 1))' 2>&1 | tail -n 1)" 'OSError: [Errno 122] Disk quota exceeded'
}

@test "trap 4: > in and : > in destroy nothing, truncate is EPERM, sed -i, vi and touch make no junk" {
	topic
	echo kept >>in
	: >in
	>in
	echo more >in
	fails EPERM truncate -s 0 in
	fails EPERM truncate -s 0 0/log
	run t sed -i s/kept/lost/ in
	not command -v vim >/dev/null || run t vim -es -u NONE -c 'normal ddix' -c 'wq!' in </dev/null
	run t touch junk "$M/topics/junk"
	is "$(head -n 2 0/log)" $'kept\nmore'
	is "$(ls -A | tr '\n' ' ')" '0 config groups in info keys purge put '
	is "$(ls -A "$M/topics" | grep -v '^test-')" ''
}

@test "trap 5: kill -9 of a blocked reader: gone at once, and no message goes to it" {
	topic
	group
	local file start
	for file in wait stream 0/wait stream.json; do
		cat "groups/g/$file" >"$BATS_TEST_TMPDIR/dead" 3>&- &
		blocked $!
		start=${EPOCHREALTIME/./}
		kill -KILL $!
		wait $! || true
		[ $((${EPOCHREALTIME/./} - start)) -lt 2000000 ] || { echo "took $((${EPOCHREALTIME/./} - start)) us"; return 1; }
		echo "after $file" >>in
		is "$(t cat groups/g/next)" "after $file"
		is "$(cat "$BATS_TEST_TMPDIR/dead")" ''
		echo all >groups/g/ack
	done
	# Ctrl-C likewise.
	bash -c 'exec cat groups/g/wait' 3>&- &
	blocked $!
	kill -INT $! 2>/dev/null
	kill -TERM $!
	wait_gone $!
}

killed_worker_check() {
	printf '%s\n' a b c >>in
	mkdir consumers/w
	# A child has the descriptor, and outlives the worker.
	in_shell 'exec 9>consumers/w/session; cat consumers/w/next; cat consumers/w/next; sleep 30 & echo $! >"$0"; kill -9 $$' \
		"$BATS_TEST_TMPDIR/child" >/dev/null || true
	is "$(payloads ready)" 'a b c '
	is "$(t cat next.json | grep -c '"redelivered":true,"deliveries":2')" 1
	kill "$(cat "$BATS_TEST_TMPDIR/child")"
}

@test "trap 6: kill -9 of a worker with a session: its messages go on at once, from a queue and from a group" {
	each_shell_queue killed_worker_check
	topic 2
	group
	seq 4 >>0/in
	seq 5 8 >>1/in
	mkdir groups/g/members/{a,b}
	bash -c 'exec 9>groups/g/members/a/session; cat groups/g/members/a/out >/dev/null; echo 0:1 >groups/g/members/a/ack; kill -9 $$' || true
	is "$(t cat groups/g/members/b/out | sort -n | tr '\n' ' ')" '3 4 5 6 7 8 '
	echo all >groups/g/members/b/ack
	is "$(tr '\n' ' ' <groups/g/offset)" '0 4 1 4 '
}

# What a killed daemon leaves: a and b were acknowledged; c is leased without a session, d with one, e by a stream; f is dead.
@test "trap 6: kill -9 of the daemon: what was acked stays gone, the rest is all there, leases go on or come back once" {
	queue
	printf '%s\n' a b c d e f g >>in
	mkdir consumers/plain consumers/held consumers/flow
	t cat take >/dev/null
	t cat next >/dev/null
	echo "$(id_of b)" >ack
	t cat consumers/plain/next >/dev/null
	c=$(id_of c)
	exec 9>consumers/held/session
	t cat consumers/held/next >/dev/null
	mv "ready/$(id_of f)" dlq/ready/
	echo 1 >config/prefetch
	cat consumers/flow/stream >"$BATS_TEST_TMPDIR/flow" 3>&- 9>&- &
	eventually grep -q e "$BATS_TEST_TMPDIR/flow"
	is "$(payloads unacked)" 'c d e '
	topic
	group
	seq 10 >>in
	t cat groups/g/out >/dev/null
	echo 0:4 >groups/g/ack
	T=$Q
	crash
	exec 9>&-
	# The holders are gone with the daemon that knew them; the lease without one goes on.
	is "$(payloads unacked)" 'c '
	is "$(payloads ready)" 'd e g '
	is "$(payloads dlq/ready)" 'f '
	echo "$c" >consumers/plain/ack
	fails EALREADY bash -c "echo $c > consumers/plain/ack"
	is "$(info published) $(info acked) $(info ready) $(info unacked) $(info dead)" '7 3 3 0 1'
	echo 0 >config/prefetch
	is "$(t cat out.json | grep -o -e '"deliveries":[0-9]*' | tr '\n' ' ')" '"deliveries":2 "deliveries":2 "deliveries":1 '
	is "$(t cat "$G/out" | tr '\n' ' ')" '6 7 8 9 10 '
}

@test "trap 7: leases end while the daemon runs, each once, and never that of a live owner" {
	queue
	printf '%s\n' held flow gone >>in
	echo 150 >config/ack.timeout.ms
	mkdir consumers/held consumers/flow consumers/gone
	exec 9>consumers/held/session
	t cat consumers/held/next >/dev/null
	echo 1 >config/prefetch
	cat consumers/flow/stream >"$BATS_TEST_TMPDIR/flow" 3>&- 9>&- &
	local stream=$!
	eventually grep -q flow "$BATS_TEST_TMPDIR/flow"
	# The lease of who is gone ends eight times over, and no other does.
	local round
	for round in 1 2 3 4 5 6 7 8; do
		is "$(t cat consumers/gone/wait)" gone
		eventually ready_is 'gone '
		is "$(payloads consumers/held/unacked)$(payloads consumers/flow/unacked)" 'held flow '
	done
	is "$(info delivered) $(info redelivered)" '10 7'
	kill -9 $stream
	eventually ready_is 'flow gone '
	exec 9>&-
	is "$(payloads ready)" 'held flow gone '
	# A group likewise: the silent member loses its partitions, the one with a session does not.
	topic 2
	group
	mkdir groups/g/members/{live,silent}
	exec 9>groups/g/members/live/session
	echo 150 >groups/g/config/session.timeout.ms
	eventually grep -q 'member silent partitions - ' groups/g/info
	grep -q 'member live partitions 0,1 sessions 1' groups/g/info
	exec 9>&-
}

@test "trap 8: 64 producers that confirm share syncs, and no two lines mix" {
	command -v strace >/dev/null || skip 'no strace'
	topic
	local strace syncs traced=$BATS_TEST_TMPDIR/trace
	# Each sync takes 10 ms more, so that on a fast disk too others come while it goes on.
	strace -q -f -e trace=fsync,fdatasync -e inject=fsync,fdatasync:delay_enter=10000 -o "$traced" -p "$(daemon_pid)" 3>&- &
	strace=$!
	eventually grep -q 'TracerPid:.*[1-9]' "/proc/$(daemon_pid)/status" || skip 'strace may not trace'
	timeout 60 python3 - 3>&- <<-'END'
		import os
		producers = []
		for p in range(64):
		    producers.append(os.fork())
		    if producers[-1] == 0:
		        channel = os.open("in", os.O_WRONLY | os.O_APPEND | os.O_DSYNC)
		        for i in range(10):
		            line = f"{p} {i} {'x' * (500 * i)}\n".encode()
		            assert os.write(channel, line) == len(line)
		        os._exit(0)
		assert all(os.waitpid(pid, 0)[1] == 0 for pid in producers)
	END
	kill "$strace"
	wait "$strace" || true
	is "$(messages)" 640
	python3 -c '
import sys
seen = {}
for line in sys.stdin:
    p, i, x = line[:-1].split(" ")
    assert seen.get(p, -1) == int(i) - 1 and x == "x" * (500 * int(i)), line[:40]
    seen[p] = int(i)
assert len(seen) == 64' <0/log
	# 640 writes were confirmed; each sync of the log is two or three calls.
	syncs=$(grep -c 'sync(' "$traced")
	echo "640 confirmed writes with $syncs calls of fsync and fdatasync"
	[ "$syncs" -gt 0 ]
	[ "$syncs" -lt 320 ]
}

@test "trap 9: select and epoll wake only when there is something, and O_NONBLOCK gives EAGAIN" {
	topic
	group
	t python3 -c '
import os, select
fd = os.open("groups/g/stream", os.O_RDONLY | os.O_NONBLOCK)
ep = select.epoll()
ep.register(fd, select.EPOLLIN)
for i in range(20):
    assert select.select([fd], [], [], 0) == ([], [], [])
    assert ep.poll(0) == []
    try:
        os.read(fd, 100)
        assert False, "no EAGAIN"
    except BlockingIOError:
        pass
    with open("in", "a") as channel:
        channel.write("message %d\n" % i)
    assert ep.poll(10) == [(fd, select.EPOLLIN)]
    assert select.select([fd], [], [], 10)[0] == [fd]
    assert os.read(fd, 100) == b"message %d\n" % i
'
}

@test "trap 10: tail -f log follows; mv, mv -f, cp -p, tar x and install into put/ succeed in silence; rmdir works, rm -r does not destroy" {
	topic
	echo zero >>in
	tail -f 0/log >"$BATS_TEST_TMPDIR/tail" 3>&- &
	local tail=$!
	eventually grep -q zero "$BATS_TEST_TMPDIR/tail"
	echo first >>in
	eventually grep -q first "$BATS_TEST_TMPDIR/tail"
	kill $tail
	echo content >"$BATS_TEST_TMPDIR/f"
	local command
	for command in 'cp -p f put/' 'install -m 600 f put/' 'tar -cf - f | tar -C put -xf -' 'cp f g; mv g put/' 'cp f g; mv -f g put/'; do
		run t sh -c "cd $BATS_TEST_TMPDIR && ln -sfn $T/put put && $command"
		is "$command: $status$output" "$command: 0"
	done
	is "$(messages)" 7
	run t rm -rf "$T"
	[ -d "$T" ]
	cd /
	mkdir "$M/topics/empty"
	rmdir "$M/topics/empty"
}

# read_so_far - bytes that the daemon has read until now, from the store and from the kernel
read_so_far() {
	awk '$1 == "rchar:" { print $2 }' "/proc/$(daemon_pid)/io"
}

@test "trap 11: ls of a million messages streams in constant memory, ls | head returns at once, and any can be opened" {
	queue
	local before after start first
	seq 1000000 | t dd of=in bs=1M iflag=fullblock status=none
	is "$(stat -c %s ready) $(info ready)" '1000000 1000000'
	before=$(awk '/^Private/ { sum += $2 } END { print sum }' "/proc/$(daemon_pid)/smaps_rollup")
	start=$(read_so_far)
	first=$(ls -U ready | head -n 1)
	[ $(($(read_so_far) - start)) -lt 4000000 ] || { echo "ls | head made the daemon read $(($(read_so_far) - start)) bytes"; return 1; }
	ls -U ready >"$BATS_TEST_TMPDIR/all"
	is "$(wc -l <"$BATS_TEST_TMPDIR/all")" 1000000
	sort -C -u "$BATS_TEST_TMPDIR/all"
	is "$first" "$(head -n 1 "$BATS_TEST_TMPDIR/all")"
	after=$(awk '/^Private/ { sum += $2 } END { print sum }' "/proc/$(daemon_pid)/smaps_rollup")
	echo "private memory: $before KiB before ls, $after KiB after"
	# A sanitizer keeps what was freed.
	grep -q -e libasan -e libtsan "/proc/$(daemon_pid)/maps" || [ $((after - before)) -lt 4096 ]
	local line
	for line in 1 2 500000 999999 1000000; do
		is "$(cat "ready/$(sed -n "${line}p" "$BATS_TEST_TMPDIR/all")")" "$line"
	done
	echo all >purge
}

@test "trap 12: grep -r, find, file and a backup over the whole mount consume nothing and never block" {
	topic
	group
	echo message >>in
	local before command
	before=$(state)
	for command in 'grep -r message .' 'find . -type f -exec cat {} +' 'find . -type f -exec file {} +' 'tar -cf - .' "rsync -a . $BATS_TEST_TMPDIR/rsync/" \
		"cp -a . $BATS_TEST_TMPDIR/cp" 'ls -lR' 'du -s .'; do
		timeout 60 sh -c "cd $M && $command" >/dev/null 2>&1 3>&- </dev/null || { echo "$command: $?"; return 1; }
		is "$(state)" "$before"
	done
	is "$(t cat groups/g/next)" message
}
