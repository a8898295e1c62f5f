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

@test "trap 4: > in and : > in destroy nothing, truncate is EPERM, sed -i, vi and touch make no junk" {
	topic
	echo kept >>in
	: >in
	>in
	echo more >in
	fails EPERM truncate -s 0 in
	fails EACCES truncate -s 0 0/log
	run t sed -i s/kept/lost/ in
	! command -v vim >/dev/null || run t vim -es -u NONE -c 'normal ddix' -c 'wq!' in </dev/null
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
