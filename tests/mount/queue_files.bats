#!/usr/bin/env bats
# Messages of queues as files, and queues as directories: what ls, mv, rm, touch, chown and the refusals of a shell do there.
load helpers

full_check() {
	echo reject-publish >config/overflow
	echo 1 >config/max.length
	echo one >>in
	local script
	for script in 'printf x >> in' 'echo x >> in' 'printf x >> in.nul' 'printf %s "{\"payload\":\"x\"}" >> in.json' 'printf x >> priority/3/in' \
		'printf x >> head' 'echo x > put/a' 'echo x > put/a.tmp' 'cp /etc/passwd put/'; do
		run in_shell "$script"
		echo "$script: $status $output"
		[ "$status" != 0 ]
		told EDQUOT 'is full: '
	done
	# What needs no room is taken, with a newline or without: a repetition, and what is delayed.
	echo 60000 >config/dedup.window.ms
	in_shell 'echo "{\"payload\":\"d\",\"delay_ms\":600000,\"id\":\"seen\"}" >> in.json'
	in_shell 'printf %s "{\"payload\":\"d\",\"id\":\"seen\"}" >> in.json'
	in_shell '{ printf %s "{\"payload\":\"e\","; printf %s "\"delay_ms\":600000}"; } >> in.json'
	is "$(info delayed) $(info deduplicated)" '2 1'
	fails EDQUOT bash -c 'echo x > put/a'
	fails EDQUOT bash -c 'printf x >> in'
	is "$(payloads ready)$(ls -A put)" 'one '
	# What found room is kept, and the write is told of the rest.
	echo 3 >config/max.length
	run in_shell 'printf "two\nthree\nfour" >> in'
	[ "$status" != 0 ]
	told EDQUOT 'is full: '
	is "$(payloads ready)" 'one two three '
}

@test "a full queue: EDQUOT of the write itself, also of what has no newline yet, and in put/ (bash, dash)" {
	each_shell_queue full_check
}

@test "what a refused write began with is no message by itself" {
	queue
	echo reject-publish >config/overflow
	echo 1 >config/max.length
	t python3 -c '
import errno, os
channel = os.open("in", os.O_WRONLY)
os.write(channel, b"abc")
other = os.open("in", os.O_WRONLY)
os.write(other, b"other\n")
try:
    os.write(channel, b"def\n")
    assert False
except OSError as e:
    assert e.errno == errno.EDQUOT
os.unlink("ready/" + os.listdir("ready")[0])
os.close(channel)
'
	is "$(info ready)" 0
}

record_check() {
	local script
	for script in 'printf %s "{\"payload\":\"x\",\"bogus\":1}" >> in.json' 'printf v >> in.json' 'printf %s "{\"payload\":1}" >> in.json' \
		'printf %s "{}" >> in.json'; do
		run in_shell "$script"
		echo "$script: $status $output"
		[ "$status" != 0 ]
		told EINVAL ''
	done
	in_shell 'printf %s "{\"payload\":\"whole\"}" >> in.json'
	in_shell '{ printf %s "{\"headers\":{\"a\":\"}\"}"; printf %s ",\"payload\":\"x}\""; printf "}\n"; } >> in.json'
}

@test "a record without a newline is checked as it is written (bash, dash)" {
	record_queue() {
		record_check
		is "$(payloads ready)" 'whole x} '
	}
	record_topic() {
		record_check
		log_is whole 'x}'
	}
	each_shell_queue record_queue
	each_shell record_topic
}

@test "mv onto a name: EEXIST; to another name, to delayed/ or of ID.json: EPERM; nothing changes" {
	queue
	printf '%s\n' a b c >>in
	mkdir consumers/w
	a=$(id_of a) b=$(id_of b)
	fails EEXIST mv "ready/$a" "ready/$b"
	fails EEXIST mv -f "ready/$a" "ready/$((10#$b))"
	fails EEXIST mv "ready/$a" priority/0/ready/
	fails EPERM mv "ready/$a" ready/9999
	fails EPERM mv "ready/$a" dlq/ready/9999
	fails EPERM mv "ready/$a.json" dlq/ready/
	fails EPERM mv "ready/$a" delayed/
	told EPERM 'touch -d'
	fails EPERM mv "ready/$a" put/
	fails EPERM mv "ready/$a" in
	fails EPERM ln "ready/$a" dlq/ready/
	fails EPERM cp "ready/$a" dlq/ready/
	fails EPERM sed -i s/a/b/ "ready/$a"
	fails EPERM truncate -s 0 "ready/$a"
	fails EPERM bash -c "echo x >> ready/$a"
	fails EPERM touch ready/12345
	t python3 -c '
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def rename(old, new, flags):
    return 0 if libc.renameat2(-100, old.encode(), -100, new.encode(), flags) == 0 else ctypes.get_errno()
a, b = sys.argv[1:]
assert rename("ready/" + a, "ready/" + b, 1) == errno.EEXIST
assert rename("ready/" + a, "ready/" + b, 2) == errno.EINVAL
assert rename("ready/" + a, "consumers/w/unacked/" + a, 1) == 0
assert rename("consumers/w/unacked/" + a, "ready/" + str(int(a)), 0) == 0
' "$a" "$b"
	is "$(payloads ready)" 'a b c '
}

@test "ids beyond all there can be are unknown; a range that goes backwards is EINVAL" {
	queue
	mkdir consumers/w
	fails ENOENT bash -c 'echo 18446744073709551615 > consumers/w/ack'
	fails ENOENT bash -c 'echo 99999999999999999999 > consumers/w/nack'
	fails ENOENT bash -c 'echo 99999999999999999999999999 > ack'
	fails EINVAL bash -c 'echo 5-3 > consumers/w/reject'
	fails EINVAL bash -c 'echo 5-3 > dlq/redrive'
	fails ENOENT bash -c 'echo 18446744073709551615 > dlq/redrive'
	fails ENOENT cat ready/99999999999999999999
}

@test "messages belong to the queue's owner; chown -R and chmod -R hand a queue over" {
	queue
	printf '%s\n' a b >>in
	t cat next >/dev/null
	a=$(id_of a) b=$(id_of b)
	chown daemon:nogroup .
	is "$(stat -c %U:%G "ready/$b" "unacked/$a" "ready/$b.json" | uniq)" daemon:nogroup
	t chown -R nobody .
	t chmod -R g+w .
	is "$(stat -c '%U:%G %a' "ready/$b" "unacked/$a" | uniq)" 'nobody:nogroup 664'
	fails EPERM chmod 600 "ready/$b"
	# What a consumer holds belongs to who has the consumer, who can therefore renew it.
	chmod 777 consumers in
	t setpriv --reuid 2 --regid 2 --clear-groups sh -c 'mkdir consumers/mine && cat consumers/mine/next >/dev/null && touch consumers/mine/unacked/*'
	is "$(stat -c %u "consumers/mine/unacked/$b")" 2
	# Who may write unacked/ may renew and remove there.
	fails EACCES setpriv --reuid 3 --regid 3 --clear-groups touch "unacked/$a"
	chmod o+w unacked
	t setpriv --reuid 3 --regid 3 --clear-groups touch "unacked/$a"
	is "$(stat -c %a "unacked/$a" "unacked/$b")" $'666\n666'
	# It may not go past the directory's permission.
	fails EACCES setpriv --reuid 2 --regid 2 --clear-groups mv "consumers/mine/unacked/$b" ready/
	chmod o+w ready
	t setpriv --reuid 2 --regid 2 --clear-groups mv "consumers/mine/unacked/$b" ready/
}

@test "rm -r of a queue discards its messages and leaves the queue; rm -r of ready/ and dlq/ likewise" {
	queue
	printf '%s\n' a b c d >>in
	t cat next >/dev/null
	echo '{"payload":"later","delay_ms":600000}' >>in.json
	mv "ready/$(id_of b)" dlq/ready/
	echo 7 >config/prefetch
	run t rm -rf ready dlq
	is "$(info ready) $(info unacked) $(info delayed) $(info dead)" '0 1 1 0'
	seq 3 >>in
	run t rm -rf "$Q"
	[ -d "$Q" ]
	is "$(info ready) $(info unacked) $(info delayed) $(cat config/prefetch)" '0 0 0 7'
	cd /
	rmdir "$Q"
}

@test "a dlq is a queue directory: put/, in, next, ack, consumers, priority, config, without a dlq of its own" {
	queue
	echo whole >dlq/put/file
	is "$(t cat dlq/take.raw)" whole
	mkdir dlq/consumers/w
	echo x >>dlq/in
	is "$(t cat dlq/consumers/w/next)" x
	echo all >dlq/consumers/w/ack
	is "$(cd dlq && echo *)" 'ack config consumers delayed head in info nack next out priority purge put ready redrive reject stream take unacked wait'
	fails ENOENT ls dlq/dlq
	fails EINVAL bash -c 'echo dlq > dlq/config/dead.letter.to'
	fails EPERM rmdir dlq
	fails EPERM mv dlq other
}

@test "names that are too long are told of, wherever they come" {
	queue
	long=$(printf %0300d 1)
	fails ENAMETOOLONG mkdir "../$long"
	told ENAMETOOLONG ''
	fails ENAMETOOLONG stat "$long"
	fails ENAMETOOLONG touch "put/$long"
	fails ENAMETOOLONG mkdir "../$(printf %0201d 1)"
	mkdir "../$(printf %0200d 1)"
	rmdir "../$(printf %0200d 1)"
}

@test "preallocating a channel makes no message" {
	queue
	fails EPERM fallocate -l 10 in
	t python3 -c '
import os
try:
    os.posix_fallocate(os.open("in", os.O_WRONLY), 0, 10)
    assert False
except PermissionError:
    pass'
	is "$(info ready)" 0
}

@test "tar of a queue that has changed since it was looked at says nothing of files that changed" {
	queue
	mkdir consumers/w
	echo a >>in
	# What the kernel knows of these it keeps for a while, until it has listed them.
	stat . config priority consumers/w/config >/dev/null
	echo b >>in
	t cat consumers/w/next >/dev/null
	echo all >consumers/w/ack
	run t tar -cf "$BATS_TEST_TMPDIR/tar" .
	is "$status$output" 0
	topic
	stat . config 0/at >/dev/null
	echo b >>in
	run t tar -cf "$BATS_TEST_TMPDIR/tar" .
	is "$status$output" 0
}
