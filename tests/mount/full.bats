#!/usr/bin/env bats
# A full disk: messages are refused, and all that acknowledges, deletes or sets goes on working, so that room can be made.
# The store of each test is on a small tmpfs of its own.

load helpers

# shellcheck disable=SC2034 # asked by helpers
NO_MOUNT=1
DISK=$((24 << 20))

small_disk() {
	mkdir -p "$S"
	mount -t tmpfs -o "size=$DISK,mode=700" tmpfs "$S"
	# Staging files that lie idle give their room back a second later, and what is tested here counts pages.
	mount_store -o nostaging
}

teardown() {
	cd /
	not mountpoint -q "$M" || unmount
	not mountpoint -q "$S" || umount "$S"
}

# refused_full SHELL COMMAND - fails with ENOSPC, in the shell's words and in those of status/errors.
refused_full() {
	run t "$1" -c "$2"
	[ "$status" != 0 ] || { echo "$1 succeeds: $2"; return 1; }
	[ "$1" != bash ] || [[ $output == *"$(errno_text ENOSPC)"* ]] || { echo "$output"; return 1; }
	told ENOSPC ''
}

# Produces until nothing more is taken, however short; then somebody else takes what is left of the disk.
fill() {
	local len accepted=0
	for len in 200000 5000 100; do
		head -c "$len" /dev/zero | tr '\0' x >"$BATS_TEST_TMPDIR/line"
		echo >>"$BATS_TEST_TMPDIR/line"
		while t dd if="$BATS_TEST_TMPDIR/line" of=in bs=1M oflag=append conv=notrunc status=none 2>/dev/null; do
			accepted=$((accepted + 1))
			[ $accepted -lt 3000 ]
		done
	done
	is "$(messages)" $((accepted + ${1:-0}))
	dd if=/dev/zero of="$S/rest" bs=4096 status=none 2>/dev/null || true
}

# What checkpoints give back is taken by somebody else as well, and settings are written, until that is done out of the reserve.
use_reserve() {
	local i
	for ((i = 1; i < 3000; i++)); do
		[ "$(health)" != 'state degraded' ] || return 0
		dd if=/dev/zero of="$S/rest" bs=4096 oflag=append conv=notrunc status=none 2>/dev/null || true
		echo $i >config/"$1" || return
	done
	echo 'the reserve is not used'
	return 1
}

health() {
	head -n 1 "$M/status/health"
}

works_when_full() {
	local shell=$1 count
	topic
	group
	echo first >>in
	echo second >>in
	fill 2
	refused_full "$shell" 'printf "%0100000d\n" 1 >>in'
	t "$shell" -c 'cat groups/g/next >/dev/null && echo all >groups/g/ack'
	is "$(cat groups/g/offset)" '0 1'
	t "$shell" -c 'echo 0 >groups/g/0/offset && echo latest >groups/g/offset && echo earliest >groups/g/offset'
	is "$(cat groups/g/offset)" '0 0'
	t "$shell" -c 'echo 1000000 >config/flush.ms && chmod a-w put && chmod u+w put'
	is "$(cat config/flush.ms)" 1000000
	count=$(messages)
	t "$shell" -c 'echo "before 1" >0/purge'
	is "$(messages)" $((count - 1))
	is "$(head -n 1 0/log)" second

	# The reserve is in use now, and what is left of it is not for messages.
	use_reserve flush.ms
	grep -q '^reason the disk is full' "$M/status/health"
	refused_full "$shell" 'echo short >>in'
	refused_full "$shell" 'printf short >>in' # no newline, the write all the same
	refused_full "$shell" 'echo short >put/a'
	refused_full "$shell" 'mkdir ../new'
	not [ -e ../new ]
	is "$(messages)" $((count - 1))
	is "$(wc -l <0/log)" $((count - 1))

	# With room, messages again, at once and for good.
	t "$shell" -c 'echo all >purge'
	t "$shell" -c 'echo again >>in'
	is "$(health)" 'state ok'
	log_is again
	is "$(t cat groups/g/next)" again
	crash
	log_is again
	is "$(health)" 'state ok'
	t "$shell" -c 'echo all >purge'
	cd ..
	t rmdir "$T"
}

@test "bash: a full disk refuses messages only, and a purge makes room for them" {
	small_disk
	works_when_full bash
}

@test "dash: a full disk refuses messages only, and a purge makes room for them" {
	small_disk
	works_when_full dash
}

# id_in STATE - of the first message there.
id_in() {
	local name
	name=$(ls -U "$1" | head -n 1)
	echo $((10#$name))
}

queue_works_when_full() {
	local shell=$1 count
	queue
	mkdir consumers/w
	printf '%s\n' a b c d e >>in
	fill 5
	refused_full "$shell" 'printf "%0100000d\n" 1 >>in'
	count=$(messages)
	is "$(t cat next)" a
	t "$shell" -c "echo $(id_in unacked) >ack"
	is "$(t cat next)" b
	t "$shell" -c "echo $(id_in unacked) >nack"
	is "$(t cat consumers/w/next)" b
	t "$shell" -c "echo $(id_in unacked) >consumers/w/reject"
	is "$(cat dlq/ready/*)" b
	t "$shell" -c "rm ready/$(ls -U ready | head -n 1)"
	is "$(t cat next)" d
	t "$shell" -c 'rm unacked/*'
	t "$shell" -c 'echo 7 >config/prefetch && chmod a-w in'
	is "$(cat config/prefetch)" 7
	is "$(messages)" $((count - 4))
	use_reserve prefetch
	refused_full "$shell" 'echo short >>head'
	refused_full "$shell" 'printf short >>head'
	refused_full "$shell" 'echo short >put/a'

	# With room, messages again, without a remount.
	t "$shell" -c 'echo all >purge'
	is "$(messages)" 0
	eventually sh -c "/bin/echo again 2>/dev/null >>'$Q/in'"
	is "$(t cat next)" again
	eventually sh -c "[ \"\$(head -n 1 '$M/status/health')\" = 'state ok' ]"
	crash
	is "$(cat unacked/*)" again
	is "$(cat dlq/ready/*)" b
	t "$shell" -c "echo $(id_in unacked) >ack"
	rm dlq/ready/*
	cd ..
	t rmdir "$Q"
}

@test "bash: a full disk refuses messages of queues only: acks, nacks, rejects, rm, purge and settings go on" {
	small_disk
	queue_works_when_full bash
}

@test "dash: a full disk refuses messages of queues only: acks, nacks, rejects, rm, purge and settings go on" {
	small_disk
	queue_works_when_full dash
}

# leave BYTES - somebody else takes all of the disk but so much.
leave() {
	local free
	rm -f "$S/other"
	free=$(($(stat -f -c '%f * %S' "$S")))
	head -c $((free - $1)) /dev/zero >"$S/other"
}

# In one moment: ready messages of queues a and b, leases of a
there() {
	echo "$(ls "$M/queues/a$SHELL_NAME/ready" | wc -l) $(ls "$M/queues/b$SHELL_NAME/ready" | wc -l) $(ls "$M/queues/a$SHELL_NAME/unacked" | wc -l)"
}

all_or_nothing() {
	local a=queues/a$SHELL_NAME b=queues/b$SHELL_NAME x=$M/tx/$SHELL_NAME e=$M/exchanges/$SHELL_NAME
	mkdir -p "$M/$a" "$M/$b" "$x" "$e/bindings/#"
	ln -s "../../../../$a" "$e/bindings/#/a"
	ln -s "../../../../$b" "$e/bindings/#/b"
	echo 1 >>"$M/$a/in"
	is "$(t cat "$M/$a/next")" 1
	head -c 2000000 /dev/zero | tr '\0' y | fold -w 100000 >>"$x/exchanges/$SHELL_NAME/keys/k"
	ls "$M/$a/unacked" | sed 's/^0*//' >"$x/$a/ack"
	head -c 900000 /dev/zero | tr '\0' z >"$BATS_TEST_TMPDIR/line"
	echo >>"$BATS_TEST_TMPDIR/line"
	leave 4200000 # for the note, and for what one of them gets
	fails ENOSPC "$SHELL_NAME" -c "/bin/echo commit >'$x/state'"
	told ENOSPC 'the disk is full'
	is "$(cat "$x/state") $(there)" 'open 0 0 1'
	leave 1900000
	fails ENOSPC dd if="$BATS_TEST_TMPDIR/line" of="$e/keys/k" bs=1M oflag=append conv=notrunc status=none
	is "$(there) $(health)" '0 0 1 state ok'
	rm "$S/other"
	t "$SHELL_NAME" -c "echo commit >'$x/state'"
	t dd if="$BATS_TEST_TMPDIR/line" of="$e/keys/k" bs=1M oflag=append conv=notrunc status=none
	is "$(cat "$x/state") $(there) $(health)" 'committed 21 21 0 state ok'
	rmdir "$x"
	echo all >"$M/$a/purge"
	echo all >"$M/$b/purge"
	remount
}

@test "a commit and a publish for which the disk has not room are refused whole, and taken when it has (bash, dash)" {
	small_disk
	for SHELL_NAME in $SHELLS; do all_or_nothing; done
}

# Its last blocks count as free and are given to nobody.
small_ext4() {
	mkdir -p "$S"
	truncate -s 32M "$BATS_TEST_TMPDIR/image"
	mkfs.ext4 -q "$BATS_TEST_TMPDIR/image" && mount -o loop "$BATS_TEST_TMPDIR/image" "$S" || skip 'no ext4 on a loop device here'
	mount_store -o nostaging
}

few_files() {
	mkdir -p "$S"
	mount -t tmpfs -o "size=$DISK,mode=700,nr_inodes=200" tmpfs "$S"
	mount_store -o nostaging
}

take_blocks() {
	dd if=/dev/zero of="$S/other" bs=4096 status=none 2>/dev/null || true
}

take_files() {
	local i=0
	mkdir "$S/other"
	while [ $i -lt 1000 ] && : >"$S/other/$i"; do i=$((i + 1)); done 2>/dev/null
	[ $i -lt 1000 ]
}

# refuses_whole TAKE - what takes all of the disk
refuses_whole() {
	local a=topics/a$SHELL_NAME b=queues/b$SHELL_NAME x=$M/tx/$SHELL_NAME e=$M/exchanges/$SHELL_NAME
	mkdir -p "$M/$a" "$M/$b" "$x" "$e/bindings/#"
	ln -s "../../../../$a" "../../../../$b" "$e/bindings/#/"
	echo 1 >>"$e/keys/k"
	echo 2 >>"$x/$a/in"
	echo 2 >>"$x/$b/in"
	"$1"
	refused_full "$SHELL_NAME" "/bin/echo 3 >>'$e/keys/k'"
	refused_full "$SHELL_NAME" "/bin/echo commit >'$x/state'"
	is "$(cat "$x/state") $(health)" 'open state ok'
	is "$(cat "$M/$a/0/log") $(ls "$M/$b/ready" | wc -l)" '1 1'
	rm -r "$S"/other
	t "$SHELL_NAME" -c "echo commit >'$x/state' && echo 3 >>'$e/keys/k'"
	is "$(tr '\n' ' ' <"$M/$a/0/log")$(ls "$M/$b/ready" | wc -l) $(health)" '1 2 3 3 state ok'
	rmdir "$x"
}

@test "ext4 that has blocks for nobody: what is small and is published to several targets, or committed, is refused, and taken when there is room (bash, dash)" {
	small_ext4
	for SHELL_NAME in $SHELLS; do refuses_whole take_blocks; done
}

@test "a disk on which no file can be made: what is published to several targets or committed is refused, and taken when one can (bash, dash)" {
	few_files
	for SHELL_NAME in $SHELLS; do refuses_whole take_files; done
}

few_files_ext4() {
	mkdir -p "$S"
	truncate -s 32M "$BATS_TEST_TMPDIR/image"
	mkfs.ext4 -q -N 128 "$BATS_TEST_TMPDIR/image" && mount -o loop "$BATS_TEST_TMPDIR/image" "$S" || skip 'no ext4 on a loop device here'
	mount_store "$@"
}

# goes_on NAME - killed where no file can be made, the daemon starts again, with all there was, and what needs no file works.
goes_on() {
	local t=$M/topics/$1 q=$M/queues/$1 i
	mkdir -p "$t/groups/g" "$q"
	printf '%s\n' a b c >>"$t/in"
	printf '%s\n' a b c >>"$q/in"
	sync "$t/in" "$q/in"
	is "$(t cat "$t/groups/g/next")" a
	is "$(t cat "$q/next")" a
	take_files
	for i in 1 2 3; do # what the one wrote to that file is there for the next
		echo $i >"$t/groups/g/0/offset"
		echo more >>"$t/in"
		crash
		is "$(cat "$t/groups/g/0/offset") $(wc -l <"$t/0/log") $(ls "$q/unacked" | wc -l)" "$i $((3 + i)) 1"
	done
	t sh -c "ls '$q/unacked' | sed 's/^0*//' >'$q/ack'"
	crash
	is "$(ls "$q/unacked" | wc -l) $(ls "$q/ready" | wc -l)" '0 2'
	rm -r "$S"/other
	mkdir "$M/topics/more"
	rmdir "$M/topics/more"
	remount
	is "$(cat "$t/groups/g/0/offset") $(tr '\n' ' ' <"$t/0/log")$(ls "$q/ready" | wc -l)" '3 a b c more more more 2'
	is "$(health)" 'state ok'
}

@test "a disk on which no file can be made: after kill -9 the store is mounted, and what was acknowledged stays so" {
	few_files_ext4 -o nostaging
	goes_on a
	unmount
	mount_store
	goes_on b
}

@test "messages are accepted again when somebody else makes room; nobody has to ask for health to say so" {
	small_disk
	head -c 8M /dev/zero >"$S/other"
	topic
	fill
	echo "before 1" >0/purge
	is "$(health)" 'state degraded'
	rm "$S/other"
	eventually sh -c "[ \"\$(head -n 1 '$M/status/health')\" = 'state ok' ]"
	echo again >>in
	is "$(tail -n 1 0/log)" again
}

@test "a store on a full disk is mounted, read and emptied" {
	small_disk
	topic
	group
	echo first >>in
	fill 1
	remount
	is "$(t cat groups/g/next)" first
	echo all >groups/g/ack
	echo all >purge
	is "$(messages)" 0
	echo again >>in
	log_is again
	cd ..
	fails ENOTEMPTY rmdir "$T"
	echo all >"$T/purge"
	rmdir "$T"
}
