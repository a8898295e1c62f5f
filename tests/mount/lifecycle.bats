# The program itself: mounting, refusing to, ending, and the files of status/. Each test mounts for itself.
NO_MOUNT=1
load helpers

setup() {
	[ -z "$OBSTACLE" ] || skip "$OBSTACLE"
	T=
	S=$BATS_TEST_TMPDIR/store M=$BATS_TEST_TMPDIR/mq
	mkdir "$M"
	BACKGROUND=
}

teardown() {
	local pid=
	cd /
	[ ! -s "$S/lock" ] || pid=$(daemon_pid)
	while grep -q " $BATS_TEST_TMPDIR/" /proc/self/mountinfo; do
		umount -l "$(awk -v top="$BATS_TEST_TMPDIR/" 'index($5, top) == 1 { print $5 }' /proc/self/mountinfo | tail -n 1)" || break
	done
	[ -z "$pid" ] || wait_gone "$pid" 5 || kill -KILL "$pid"
	[ -z "$BACKGROUND" ] || kill -KILL "$BACKGROUND" 2>/dev/null || true
}

# mount_foreground - with -f; returns when the mount is there. Its pid is $BACKGROUND.
mount_foreground() {
	"$MQFS_PROGRAM" -f "$@" "$S" "$M" >"$BATS_TEST_TMPDIR/said" 2>&1 </dev/null 3>&- 4>&- &
	BACKGROUND=$!
	local i
	for i in $(seq 100); do
		not mountpoint -q "$M" || break
		findmnt --poll=mount -n -1 -t 200 >/dev/null || true
	done
	stat "$M/README" >/dev/null
}

# does_not_mount WORD COMMAND... - ends with a status that is not 0, says why, and mounts nothing.
does_not_mount() {
	local word=$1
	shift
	run t "$@"
	[ "$status" != 0 ] && [ "$status" -lt 124 ] || { echo "status $status: $output"; return 1; }
	[[ $output == *"$word"* ]] || { echo "says '$output' and not '$word'"; return 1; }
	not mountpoint -q "$M"
}

@test "mqfs STORE DIR makes the store, mounts, and returns when the mount answers" {
	t "$MQFS_PROGRAM" "$S" "$M" </dev/null
	[ -s "$M/README" ]
	is "$(ls "$M" | tr '\n' ' ')" 'README config exchanges queues status topics tx '
	is "$(stat -c %i "$M")" 1
	is "$(findmnt -n -o FSTYPE "$M")" fuse.mqfs
	[[ $(findmnt -n -o SOURCE "$M") == *"$S"* ]]
	is "$(stat -c %a "$S")" 700
	unmount
}

@test "a first message, as the README has it, from nothing" {
	mount_store
	cd "$M"
	mkdir topics/hello
	mkdir topics/hello/groups/me
	echo 'hello, world' >>topics/hello/in
	is "$(t cat topics/hello/groups/me/next)" 'hello, world'
	echo all >topics/hello/groups/me/ack
	is "$(t cat topics/hello/groups/me/next)" ''
}

@test "umount ends the daemon, and the next mount has all that was there" {
	mount_store
	mkdir "$M/topics/t"
	echo kept >>"$M/topics/t/in"
	local i
	for i in 1 2 3; do
		unmount
		not mountpoint -q "$M"
		mount_store
		is "$(cat "$M/topics/t/0/log")" kept
	done
}

@test "SIGTERM and SIGINT end the daemon with status 0 and nothing stays mounted, -f is in the foreground" {
	local signal
	for signal in TERM INT HUP; do
		mount_foreground
		kill -0 "$BACKGROUND"
		is "$(daemon_pid)" "$BACKGROUND"
		mkdir -p "$M/topics/t"
		echo "$signal" >>"$M/topics/t/in"
		kill "-$signal" "$BACKGROUND"
		wait_gone "$BACKGROUND"
		wait "$BACKGROUND" || { echo "SIG$signal: status $?"; cat "$BATS_TEST_TMPDIR/said"; return 1; }
		not mountpoint -q "$M"
	done
	mount_store
	is "$(cat "$M/topics/t/0/log" | tr '\n' ' ')" 'TERM INT HUP '
}

@test "SIGTERM ends the daemon while readers wait and writers hold channels; they get errors, not hangs" {
	mount_store
	mkdir "$M/topics/t" "$M/topics/t/groups/g"
	cat "$M/topics/t/groups/g/wait" >/dev/null 2>&1 3>&- &
	local reader=$! pid
	blocked $reader
	exec 5>>"$M/topics/t/in"
	echo one >&5
	printf half >&5
	pid=$(daemon_pid)
	kill -TERM "$pid"
	wait_gone "$reader"
	wait_gone "$pid"
	not /usr/bin/printf 'x\n' >&5 2>/dev/null
	exec 5>&- || true
	umount -l "$M" 2>/dev/null || true
	mount_store
	is "$(head -n 1 "$M/topics/t/0/log")" one
}

@test "what cannot be mounted says why and exits with a status that is not 0" {
	does_not_mount '' "$MQFS_PROGRAM"
	does_not_mount '' "$MQFS_PROGRAM" "$S"
	does_not_mount '' "$MQFS_PROGRAM" "$S" "$M" extra
	does_not_mount "$M/none" "$MQFS_PROGRAM" "$S" "$M/none"
	touch "$BATS_TEST_TMPDIR/file"
	does_not_mount "$BATS_TEST_TMPDIR/file" "$MQFS_PROGRAM" "$S" "$BATS_TEST_TMPDIR/file"
	does_not_mount bogus "$MQFS_PROGRAM" -o bogus "$S" "$M"
	does_not_mount '' "$MQFS_PROGRAM" --bogus "$S" "$M"
	does_not_mount kafka "$MQFS_PROGRAM" kafka://host:9092 "$M"
	does_not_mount "$BATS_TEST_TMPDIR/no" "$MQFS_PROGRAM" "$BATS_TEST_TMPDIR/no/such/store" "$M"
	mkdir "$BATS_TEST_TMPDIR/other"
	echo precious >"$BATS_TEST_TMPDIR/other/file"
	does_not_mount "$BATS_TEST_TMPDIR/other" "$MQFS_PROGRAM" "$BATS_TEST_TMPDIR/other" "$M"
	is "$(ls "$BATS_TEST_TMPDIR/other")" file
	does_not_mount '' "$MQFS_PROGRAM" "$BATS_TEST_TMPDIR/file" "$M"
	does_not_mount '' "$MQFS_PROGRAM" -f "$BATS_TEST_TMPDIR/other" "$M"
	[ ! -e "$S" ] || { mount_store && unmount; }
}

@test "a store whose FORMAT is unknown or newer is refused and left as it is" {
	mount_store
	unmount
	cp -a "$S" "$BATS_TEST_TMPDIR/backup"
	sed -i 's/format 1/format 999/' "$S/FORMAT"
	does_not_mount "$S" "$MQFS_PROGRAM" "$S" "$M"
	echo garbage >"$S/FORMAT"
	does_not_mount "$S" "$MQFS_PROGRAM" "$S" "$M"
	cp "$BATS_TEST_TMPDIR/backup/FORMAT" "$S/FORMAT"
	mount_store
}

@test "a second daemon on the same store refuses and names the first one's pid, and the first goes on" {
	mount_store
	mkdir "$BATS_TEST_TMPDIR/second"
	run t "$MQFS_PROGRAM" "$S" "$BATS_TEST_TMPDIR/second"
	[ "$status" != 0 ]
	[[ $output == *"$(daemon_pid)"* ]] || { echo "$output"; return 1; }
	not mountpoint -q "$BATS_TEST_TMPDIR/second"
	mkdir "$M/topics/alive"
	run t "$MQFS_PROGRAM" -f "$S" "$BATS_TEST_TMPDIR/second"
	[ "$status" != 0 ]
	mkdir "$M/topics/still"
}

@test "two stores are mounted side by side and know nothing of each other" {
	mount_store
	mkdir "$M/topics/a"
	local first=$S dir=$M
	S=$BATS_TEST_TMPDIR/store2 M=$BATS_TEST_TMPDIR/mq2
	mkdir "$M"
	mount_store
	is "$(ls "$M/topics")" ''
	mkdir "$M/topics/b"
	is "$(ls "$dir/topics")" a
	unmount
	S=$first M=$dir
}

@test "mounted read-only: everything can be looked at, and nothing changed: EROFS" {
	mount_store
	mkdir "$M/topics/t" "$M/topics/t/groups/g"
	printf 'one\ntwo\n' >>"$M/topics/t/in"
	unmount
	mount_store -o ro
	cd "$M/topics/t"
	is "$(cat 0/log)" $'one\ntwo'
	is "$(t cat groups/g/next)" one
	is "$(t cat groups/g/out)" $'one\ntwo'
	fails EROFS mkdir "$M/topics/u"
	fails EROFS mkdir groups/h
	fails EROFS rmdir groups/g
	fails EROFS chmod 777 in
	fails EROFS mv groups/g groups/h
	local script
	for script in 'echo x >>in' 'echo x >in' 'echo all >groups/g/ack' 'echo earliest >groups/g/offset' 'echo 1 >config/retention.ms' \
		'echo all >purge' 'echo x >put/f' 'echo x >keys/k' 'echo x >>in.json'; do
		fails EROFS bash -c "$script"
		run t dash -c "$script"
		[ "$status" != 0 ]
	done
	cd /
	unmount
	mount_store -o rw
	is "$(cat "$M/topics/t/0/log")" $'one\ntwo'
	is "$(cat "$M/topics/t/groups/g/offset")" '0 0'
}

@test "noallow_other keeps other users out; by default they may come in" {
	mount_store -o noallow_other
	chmod a+x "$BATS_TEST_TMPDIR"
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups ls "$M"
	unmount
	mount_store
	t setpriv --reuid 65534 --regid 65534 --clear-groups ls "$M" >/dev/null
}

@test "options of mount(8) that mean nothing here are taken, and fsname shows in df" {
	mount_store -o rw,nosuid,nodev,noexec,relatime,_netdev,nofail,noauto,user,fsname=my-queue
	is "$(findmnt -n -o SOURCE "$M")" my-queue
	df "$M" | grep -q '^my-queue '
	unmount
	mount_store -o threads=2
	mkdir "$M/topics/t"
}

@test "busy_poll: each value of it answers, one that is none is refused" {
	local us
	for us in 0 1 1000; do
		mount_store -o busy_poll=$us
		mkdir -p "$M/topics/t/groups/g"
		for _ in $(seq 200); do echo "$us" >>"$M/topics/t/in"; done
		is "$(cat "$M/topics/t/groups/g/out" | wc -l)" 200
		echo all >"$M/topics/t/groups/g/ack"
		unmount
	done
	for us in '' -1 1001 12x; do
		not mount_store -o busy_poll="$us"
		grep -q 'microseconds are wanted, 0 to 1000' "$BATS_FILE_TMPDIR/said"
	done
}

# Whether it asks for it; only where there are few processors if it is not told.
holds_latency() {
	find "/proc/$(daemon_pid)/fd" -lname /dev/cpu_dma_latency | grep -q .
}

@test "pm_qos: the daemon may keep processors awake, by default where there are few" {
	[ -w /dev/cpu_dma_latency ] || skip "no /dev/cpu_dma_latency"
	mount_store -o pm_qos
	holds_latency
	mkdir "$M/topics/t"
	echo 0 >"$M/topics/t/config/linger.ms"
	for i in $(seq 500); do echo "$i" >>"$M/topics/t/in"; done
	is "$(wc -l <"$M/topics/t/0/log")" 500
	unmount
	mount_store -o nopm_qos
	not holds_latency
	unmount
	mount_store
	if [ "$(nproc --all)" -gt 1 ] && [ "$(nproc --all)" -le 8 ]; then holds_latency; else not holds_latency; fi
}

@test "a mount whose daemon was killed can be detached and mounted again" {
	mount_store
	mkdir "$M/topics/t"
	kill -KILL "$(daemon_pid)"
	wait_gone "$(daemon_pid)"
	not ls "$M" 2>/dev/null
	umount "$M" || umount -l "$M"
	mount_store
	is "$(ls "$M/topics")" t
}

@test "umount -l with files open: they work on until closed, and then the daemon ends" {
	mount_store
	mkdir "$M/topics/t"
	exec 5>>"$M/topics/t/in"
	local pid
	pid=$(daemon_pid)
	fails EBUSY umount "$M" || [[ $output == *busy* ]]
	umount -l "$M"
	/usr/bin/printf 'after\n' >&5
	exec 5>&-
	wait_gone "$pid"
	mount_store
	is "$(cat "$M/topics/t/0/log")" after
}

@test "df shows the store's file system" {
	mount_store
	[ "$(df --output=size "$M" | tail -n 1)" -gt 0 ]
	is "$(df --output=size "$M" | tail -n 1)" "$(df --output=size "$S" | tail -n 1)"
	is "$(stat -f -c %l "$M")" 255
}

@test "status: health is ok, version says what is active, metrics are OpenMetrics, errors start empty" {
	mount_store
	is "$(head -n 1 "$M/status/health")" 'state ok'
	grep -q ^mqfs "$M/status/version"
	is "$(cat "$M/status/errors")" ''
	mkdir "$M/topics/t" "$M/topics/t/groups/g"
	echo x >>"$M/topics/t/in"
	cat "$M/status/metrics" >"$BATS_TEST_TMPDIR/metrics"
	is "$(tail -n 1 "$BATS_TEST_TMPDIR/metrics")" '# EOF'
	grep -q '^# TYPE mqfs_' "$BATS_TEST_TMPDIR/metrics"
	grep -q 'topic="t"' "$BATS_TEST_TMPDIR/metrics"
	not grep -v -E '^(# (TYPE|HELP|UNIT|EOF)|[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^}]*\})? -?[0-9.e+-]+$)' "$BATS_TEST_TMPDIR/metrics"
}

@test "status/errors: one line per refusal with time, errno, who and where; status/events tells it to who waits" {
	mount_store
	cat "$M/status/events" >"$BATS_TEST_TMPDIR/events" 3>&- &
	local reader=$!
	blocked $reader
	fails EINVAL mkdir "$M/topics/bad~"
	told EINVAL ''
	tail -n 1 "$M/status/errors" | grep -q -E "^[^ ]+ EINVAL uid=0 pid=[0-9]+ .*bad~: .+"
	eventually grep -q 'bad~' "$BATS_TEST_TMPDIR/events"
	kill $reader
	local i
	for i in $(seq 300); do
		mkdir "$M/topics/bad$i~" 2>/dev/null || true
	done
	is "$(wc -l <"$M/status/errors")" 256
	tail -n 1 "$M/status/errors" | grep -q 'bad300~'
}

@test "a full store: ENOSPC from the write itself, acks and purges still work, and after them messages again" {
	mkdir "$S"
	mount -t tmpfs -o size=48m,mode=700 tmpfs "$S"
	mount_store
	mkdir "$M/topics/t" "$M/topics/t/groups/g"
	T=$M/topics/t
	cd "$T"
	echo first >>in
	t cat groups/g/next >/dev/null
	head -c 500000 /dev/zero | tr '\0' x >"$BATS_TEST_TMPDIR/line"
	echo >>"$BATS_TEST_TMPDIR/line"
	local accepted=1
	while cat "$BATS_TEST_TMPDIR/line" >in 2>"$BATS_TEST_TMPDIR/err"; do
		accepted=$((accepted + 1))
		[ $accepted -lt 200 ]
	done
	grep -q "$(errno_text ENOSPC)" "$BATS_TEST_TMPDIR/err"
	told ENOSPC ''
	is "$(messages)" $accepted
	echo all >groups/g/ack
	is "$(cat groups/g/offset)" '0 1'
	echo 1000 >config/retention.bytes
	echo -1 >config/retention.bytes
	echo "before 20" >purge 2>/dev/null || echo all >purge
	eventually sh -c 'echo again >in'
	is "$(tail -n 1 0/log)" again
	cd /
	unmount
	mount_store
	is "$(tail -n 1 "$M/topics/t/0/log")" again
	unmount
	umount "$S"
}
