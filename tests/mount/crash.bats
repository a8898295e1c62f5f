# kill -9 of the daemon, as shells see it: what a command has been told is done stays done.
load helpers

@test "everything that echo had written is there after kill -9 and a new mount; at most the last one more" {
	topic
	local pids=() shell i
	for shell in bash dash; do
		"$shell" -c 'i=0; while echo "'$shell' $i" >>in; do echo "'$shell' $i" >&5; i=$((i+1)); done' \
			5>"$BATS_TEST_TMPDIR/$shell" 2>/dev/null 3>&- &
		pids+=($!)
	done
	eventually sh -c "[ \$(cat $BATS_TEST_TMPDIR/bash $BATS_TEST_TMPDIR/dash | wc -l) -gt 500 ]"
	crash
	wait "${pids[@]}" || true
	for shell in bash dash; do
		local accepted there
		accepted=$(wc -l <"$BATS_TEST_TMPDIR/$shell")
		there=$(grep -c "^$shell " 0/log)
		[ "$there" -ge "$accepted" ] && [ "$there" -le $((accepted + 1)) ] || { echo "$shell: $accepted accepted, $there there"; return 1; }
		grep "^$shell " 0/log | head -n "$accepted" | cmp - "$BATS_TEST_TMPDIR/$shell"
	done
}

@test "a worker that acknowledges one by one finds its place again" {
	topic
	group
	seq 1 100000 >>in
	bash -c 'while m=$(cat groups/g/next 2>/dev/null) && [ -n "$m" ] && { echo all >groups/g/ack; } 2>/dev/null; do echo "$m"; done' \
		>"$BATS_TEST_TMPDIR/done" 3>&- &
	local worker=$!
	eventually sh -c "[ \$(wc -l <$BATS_TEST_TMPDIR/done) -gt 100 ]"
	crash
	wait $worker || true
	local last next
	last=$(tail -n 1 "$BATS_TEST_TMPDIR/done")
	next=$(t cat groups/g/next)
	[ "$next" = $((last + 1)) ] || [ "$next" = $((last + 2)) ] || { echo "done up to $last, next is $next"; return 1; }
}

# die - kill -9, and nobody takes over.
die() {
	local pid
	pid=$(daemon_pid)
	cd /
	kill -KILL "$pid"
	wait_gone "$pid"
	umount -l "$M"
}

@test "read-only after kill -9: it is put right first; a store that cannot be written says what to do" {
	topic
	local rest=${PWD#"$M"} first=$S
	echo before >>in
	die
	mount_store -o ro
	is "$(cat "$M$rest/0/log")" before
	fails EROFS mkdir "$M/topics/u"
	unmount
	mount_store
	echo after >>"$M$rest/in"
	mkdir "$M$rest/groups/g"
	is "$(cat "$M$rest/groups/g/out")" $'before\nafter'
	echo all >"$M$rest/groups/g/ack" # in the journal alone, which a read-only mount cannot put in its place
	die
	mkdir "$BATS_FILE_TMPDIR/copy"
	mount --bind "$S" "$BATS_FILE_TMPDIR/copy"
	mount -o remount,ro,bind "$BATS_FILE_TMPDIR/copy"
	S=$BATS_FILE_TMPDIR/copy
	run mount_store -o ro
	[ "$status" != 0 ]
	cat "$BATS_FILE_TMPDIR/said"
	grep -q 'was not closed.*fsck.mqfs' "$BATS_FILE_TMPDIR/said"
	S=$first
	mount_store
	is "$(cat "$M$rest/0/log")" $'before\nafter'
	unmount
	S=$BATS_FILE_TMPDIR/copy
	mount_store -o ro
	is "$(cat "$M$rest/0/log")" $'before\nafter'
	is "$(cat "$M$rest/groups/g/out")" ""
	umount "$M"
	eventually umount "$S"
	S=$first
	mount_store
	T=
}

@test "what lingers survives the daemon: linger.ms of a minute, kill -9 at once" {
	topic
	echo 60000 >config/linger.ms
	exec 5>>in
	echo one >&5
	printf 'two\nhalf' >&5
	crash
	exec 5>&-
	log_is one two
	echo three >>in
	log_is one two three
}

# abort_mount - makes the kernel fail all requests of a mount whose daemon can neither answer nor die.
abort_mount() {
	local connections=/sys/fs/fuse/connections device
	mountpoint -q "$connections" || mount -t fusectl fusectl "$connections"
	device=$(awk -v dir="$M" '$5 == dir { sub(".*:", "", $3); print $3 }' /proc/self/mountinfo)
	[ -z "$device" ] || echo 1 >"$connections/$device/abort"
}

@test "a daemon killed while it starts, again and again, ends at once and leaves a store that mounts" {
	topic
	seq 1 20000 >>in
	local sum delay pid
	sum=$(md5sum <0/log)
	cd /
	kill -KILL "$(daemon_pid)"
	wait_gone "$(daemon_pid)"
	umount -l "$M"
	for delay in $(seq -f 0.%03.0f 0 25); do
		"$MQFS_PROGRAM" -f "$S" "$M" >/dev/null 2>&1 </dev/null 3>&- 4>&- &
		pid=$!
		sleep "$delay"
		kill -KILL "$pid"
		# A thread of it that waits for an answer from itself would keep it, and the store's lock, for ever.
		if ! wait_gone "$pid" 10 || ! flock -w 10 "$S/lock" true; then
			echo "killed after $delay s, it does not end: $(cat "/proc/$pid/wchan")"
			abort_mount
			umount -l "$M"
			mount_store
			return 1
		fi
		wait "$pid" || true
		# A dead mount is no mount point for mountpoint(1).
		not grep -q " $M " /proc/self/mountinfo || umount -l "$M"
	done
	mount_store || { cat "$BATS_FILE_TMPDIR/said"; return 1; }
	is "$(md5sum <"$T/0/log")" "$sum"
}

@test "new partitions, purges and deletions that were answered are not undone by kill -9" {
	topic 2
	seq 1 10 >>0/in
	echo 'before 4' >0/purge
	mkdir 2
	mkdir groups/gone groups/stays
	rmdir groups/gone
	crash
	is "$(cat 0/log | tr '\n' ' ')" '5 6 7 8 9 10 '
	is "$(ls groups)" stays
	is "$(cat config/partitions)" 3
	echo 11 >>0/in
	is "$(jq .offset 0/log.json | tail -n 1)" 10
	is "$(cat groups/stays/0/offset)" 4
}

@test "offsets are dense, never reused and never go back, over crashes and purges" {
	topic
	local i
	for i in 1 2 3; do
		seq 1 5 >>in
		echo all >purge
		echo "round $i" >>in
		crash
	done
	is "$(jq .offset 0/log.json | tail -n 1)" 17
	is "$(tail -n 1 0/log)" 'round 3'
}

@test "a store of many segments comes back whole" {
	topic
	echo 4096 >config/segment.bytes
	local i
	for i in $(seq 200); do
		seq $i $((i + 99)) >>in
	done
	local sum
	sum=$(md5sum <0/log)
	is "$(messages)" 20000
	crash
	is "$(md5sum <0/log)" "$sum"
	is "$(cat 0/at/12345)" "$(sed -n 12346p 0/log)"
	remount
	is "$(md5sum <0/log)" "$sum"
}

@test "a message that the disk has changed is EIO wherever it is read, and the others are there (bash, dash)" {
	local shell i file
	for shell in $SHELLS; do
		topic
		group
		for i in 1 2 3; do
			"$shell" -c "echo $shell message $i >>in"
			sync in
		done
		cd /
		unmount
		file=$(grep -l "$shell message 2" "$S"/logs/*/*.data)
		printf X | dd of="$file" bs=1 seek=17 conv=notrunc status=none
		mount_store
		cd "$T"
		is "$(head -n 1 "$M/status/health")" 'state ok'
		run "$shell" -c 'cat 0/log'
		[ "$status" = 1 ]
		is "${lines[0]}" "$shell message 1"
		[[ ${lines[1]} == *': Input/output error' ]]
		[ "${#lines[@]}" = 2 ]
		is "$(dd if=0/log bs=15 skip=2 status=none)" "$shell message 3"
		run dd if=0/log bs=15 count=1 skip=1 status=none
		[ "$status" = 1 ]
		run cat 0/at/1
		[ "$status" = 1 ]
		is "$(cat groups/g/out)" "$shell message 1
$shell message 3"
		grep -q "EIO .*messages 1 to 1 are damaged" "$M/status/errors"
		is "$(cat "$M/status/health")" "state degraded
reason topic ${T##*/}, partition 0: 1 message is damaged, the first is number 1 of its log"
		echo 'before 1' >0/purge
		is "$(head -n 1 "$M/status/health")" 'state degraded'
		echo 'before 2' >0/purge
		is "$(cat "$M/status/health")" 'state ok'
	done
}

# damage WORD - a byte of the message with that word, on the disk, while nothing is mounted
damage() {
	local file pos
	file=$(grep -l "$1" "$S"/logs/*/*.data)
	pos=$(grep -a -b -o "$1" "$file" | head -n 1)
	printf '#' | dd of="$file" bs=1 seek="${pos%%:*}" conv=notrunc status=none
}

@test "health is degraded while messages of a queue are damaged, and names it; what was lost with files of a log it names until the next mount" {
	queue
	echo none >config/dead.letter.to
	printf 'harm%s\n' 1 2 3 | while read -r line; do
		echo "$line" >>in
		sync in
	done
	topic
	echo harm4 >>in
	sync in
	cd /
	unmount
	damage harm2
	rm "$S"/logs/"$(basename "$(dirname "$(grep -l harm4 "$S"/logs/*/*.data)")")"/*.index
	mount_store
	is "$(t cat "$Q/out")" 'harm1
harm3'
	cat "$T/0/log" >/dev/null || true
	is "$(head -n 1 "$M/status/health")" 'state degraded'
	grep -qx "reason queue ${Q##*/}, priority 0: 1 message is damaged, the first is number 1 of its log" "$M/status/health"
	grep -q "^reason topic ${T##*/}, partition 0: messages 0 to 0 are lost " "$M/status/health"
	rm "$Q"/unacked/*
	echo all >"$Q/purge"
	rmdir "$Q"
	not grep queue "$M/status/health"
	is "$(head -n 1 "$M/status/health")" 'state degraded'
	remount
	cat "$T/0/log" >/dev/null
	is "$(cat "$M/status/health")" 'state ok'
}
