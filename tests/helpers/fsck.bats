#!/usr/bin/env bats
# mkfs.mqfs and fsck.mqfs: by themselves, and called by mkfs(8) and fsck(8). Stores are filled through a mount.

load ../mount/helpers
setup_file() { :; }
teardown_file() { :; }

setup() {
	S=$BATS_TEST_TMPDIR/store
	M=$BATS_TEST_TMPDIR/mnt
	mkdir "$M"
	TOOLS=$(dirname "$MQFS_PROGRAM")
	PATH=$TOOLS:$PATH
}

teardown() {
	if mountpoint -q "$M"; then
		umount -l "$M"
	fi
	[ ! -s "$S/lock" ] || wait_gone "$(cat "$S/lock")"
	if mountpoint -q "$BATS_TEST_TMPDIR/small"; then
		umount -l "$BATS_TEST_TMPDIR/small"
	fi
}

# needs_mount - skips the test where nothing can be mounted.
needs_mount() {
	local why
	why=$(obstacle)
	[ -z "$why" ] || skip "$why"
}

# filled - a store with a topic and a queue of five messages each, and all of it on disk.
filled() {
	"$MQFS_PROGRAM" "$S" "$M"
	mkdir "$M/topics/orders" "$M/topics/orders/groups/g" "$M/queues/jobs"
	seq 5 >>"$M/topics/orders/in"
	seq 11 15 >>"$M/queues/jobs/in"
	sync "$M/topics/orders/in" "$M/queues/jobs/in"
	umount "$M"
	wait_gone "$(cat "$S/lock")"
}

catalog_row() {
	python3 "$BATS_TEST_DIRNAME/catalog_row.py" "$@"
}

# status WANTED COMMAND... - runs it; its output is in $output.
status() {
	local want=$1
	shift
	run "$@"
	[ "$status" = "$want" ] || {
		printf 'exit status %s, not %s: %s\n%s\n' "$status" "$want" "$*" "$output"
		return 1
	}
}

data_of() {
	grep -l -x -F -e "$1" "$S"/logs/*/*.data
}

flip() { # FILE POSITION
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	# shellcheck disable=SC2059 # an escape is what is wanted
	printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

@test "mkfs makes a store once, says its uuid, and touches nothing that is there" {
	status 0 mkfs.mqfs "$S"
	[[ $output =~ 'an empty store, uuid '[0-9a-f-]{36}$ ]]
	status 1 mkfs.mqfs "$S"
	[[ $output == *'is a store already' ]]
	mkdir "$BATS_TEST_TMPDIR/full" && touch "$BATS_TEST_TMPDIR/full/file"
	status 1 mkfs.mqfs "$BATS_TEST_TMPDIR/full"
	[ "$(ls "$BATS_TEST_TMPDIR/full")" = file ]
	status 1 mkfs.mqfs "$BATS_TEST_TMPDIR/none/store"
	status 1 mkfs.mqfs
	status 0 fsck.mqfs "$S"
	[[ $output == *clean ]]
}

@test "mkfs(8) and fsck(8) find them" {
	status 0 mkfs -t mqfs -q "$S"
	status 0 fsck -t mqfs "$S" -- -n
	[[ $output == *clean ]]
}

@test "a store at rest is clean, and counted; one that is in use is left alone" {
	needs_mount
	filled
	status 0 fsck.mqfs -n "$S"
	[[ $output == *' 10 messages,'*clean ]]
	"$MQFS_PROGRAM" "$S" "$M"
	status 8 fsck.mqfs -a "$S"
	[[ $output == *"in use by process $(cat "$S/lock")"* ]]
}

@test "what a kill leaves is finished, and is no damage" {
	needs_mount
	filled
	"$MQFS_PROGRAM" -o nostaging "$S" "$M"
	echo last >>"$M/topics/orders/in"
	kill -9 "$(cat "$S/lock")"
	umount -l "$M"
	wait_gone "$(cat "$S/lock")"
	f=$(data_of last)
	truncate -s -2 "$f" # as if the power had been cut
	rm "$S"/journal/*
	status 4 fsck.mqfs -n "$S"
	[[ $output == *'cut 1 batches'* ]]
	status 1 fsck.mqfs -a "$S"
	status 0 fsck.mqfs -n "$S"
	[[ $output == *' 10 messages,'*clean ]]
}

@test "a journal that is not there, or empty, is no clean store" {
	local what
	needs_mount
	filled
	"$MQFS_PROGRAM" "$S" "$M"
	head -n 2 "$M/topics/orders/groups/g/out" >/dev/null
	echo all >"$M/topics/orders/groups/g/ack"
	kill -9 "$(cat "$S/lock")"
	umount -l "$M"
	wait_gone "$(cat "$S/lock")"
	status 0 fsck.mqfs -n "$S"
	cp -a "$S" "$S.whole"
	for what in gone empty; do
		rm -rf "$S"
		cp -a "$S.whole" "$S"
		[ $what = gone ] && rm "$S"/journal/* || truncate -s 0 "$S"/journal/*
		status 4 fsck.mqfs -n "$S"
		[[ $output == *'the journal is lost'*'1 damaged' || $output == *'it is empty: what it said is lost'*'1 damaged' ]]
		status 1 fsck.mqfs -y "$S"
		[[ $output == *clean ]]
		status 0 fsck.mqfs -n "$S"
	done
}

@test "what producers wrote and no daemon took in is no clean store, nor is a damaged staging file or copy" {
	local what
	needs_mount
	filled
	"$MQFS_PROGRAM" "$S" "$M"
	exec 7>>"$M/topics/orders/in"
	seq 6 9 >&7
	kill -9 "$(cat "$S/lock")"
	exec 7>&-
	umount -l "$M"
	wait_gone "$(cat "$S/lock")"
	cp -a "$S" "$S.whole"
	for what in nothing copy header; do
		rm -rf "$S"
		cp -a "$S.whole" "$S"
		case $what in
		copy) flip "$S/catalog.copy" 100 ;;
		header) flip "$S/staging/0000000000000001" 100 ;;
		esac
		status 4 fsck.mqfs -n "$S"
		case $what in
		nothing) [[ $output == *'staging file 0000000000000001: what is not yet in a log of '*'not ended in order'* ]] ;;
		copy) [[ $output == *'the copy of the catalog is damaged: a mount writes it anew'*'not ended in order'* ]] ;;
		header) [[ $output == *'the header of staging file 0000000000000001 is damaged'*'1 damaged' ]] ;;
		esac
		status 1 fsck.mqfs -y "$S"
		status 0 fsck.mqfs -n "$S"
		if [ $what != header ]; then
			[[ $output == *' 14 messages,'*clean ]]
		else
			[[ $(tail -c +513 "$S/staging/0000000000000001.damaged") = "$(seq 6 9)" ]]
		fi
	done
}

@test "a file of the journal that a checkpoint could not remove does not count, and goes with the next mount" {
	needs_mount
	filled
	"$MQFS_PROGRAM" "$S" "$M"
	id=$(echo settled >"$M/queues/jobs/in"; basename "$(ls "$M/queues/jobs/ready" | tail -n 1)")
	rm "$M/queues/jobs/ready/$id"
	cp -r "$S/journal" "$BATS_TEST_TMPDIR/old"
	umount "$M"
	wait_gone "$(cat "$S/lock")"
	cp -n "$BATS_TEST_TMPDIR"/old/* "$S/journal/"
	[ "$(ls "$S/journal" | wc -l)" -gt 1 ]
	status 0 fsck.mqfs -n "$S"
	[[ $output == *', 0 records in the journal'*clean ]]
	"$MQFS_PROGRAM" "$S" "$M"
	[ "$(ls "$S/journal" | wc -l)" = 1 ]
	[ "$(ls "$M/queues/jobs/ready" | wc -l)" = 5 ]
	umount "$M"
	wait_gone "$(cat "$S/lock")"
}

@test "a flipped bit costs its batch, is found, named, and left" {
	needs_mount
	filled
	f=$(data_of 12)
	flip "$f" 3
	status 4 fsck.mqfs -n "$S"
	[[ $output == *"log $(basename "$(dirname "$f")")"*' 5 messages,'*' damaged'* ]]
	status $((1 | 4)) fsck.mqfs -a "$S"
	"$MQFS_PROGRAM" "$S" "$M" # and it can be used
	[ "$(cat "$M/topics/orders/groups/g/out")" = "$(seq 5)" ]
	echo 16 >>"$M/queues/jobs/in"
	[ "$(cat "$M/queues/jobs/take")" = 16 ]
}

@test "cancelled while it asks, it repairs nothing, and its status says so" {
	local pid status=0
	needs_mount
	filled
	flip "$(data_of 12)" 3
	mkfifo "$BATS_TEST_TMPDIR/answer"
	fsck.mqfs -r "$S" <>"$BATS_TEST_TMPDIR/answer" >"$BATS_TEST_TMPDIR/asked" 2>&1 &
	pid=$!
	eventually grep -q 'repair it?' "$BATS_TEST_TMPDIR/asked"
	# More than once: the first may come before it waits for the answer.
	eventually eval "! kill -TERM $pid 2>/dev/null"
	wait "$pid" || status=$?
	[ "$status" = $((4 | 32)) ]
}

# LeakSanitizer does not work under strace.
without_leaks() {
	export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
}

@test "cancelled before it was through, it does not call the store clean" {
	without_leaks
	status 0 mkfs.mqfs -q "$S"
	status 32 strace -qq -o /dev/null -P "$S/FORMAT" -e trace=pread64 -e inject=pread64:signal=TERM fsck.mqfs -n "$S"
	[[ $output == *'a signal ended it: not all was looked at' ]]
	[[ $output != *clean* ]]
}

@test "they say their version, and their options" {
	local tool
	for tool in mkfs fsck; do
		status 0 $tool.mqfs --version
		is "$output" "$("$MQFS_PROGRAM" --version)"
		status 0 $tool.mqfs -V
		status 0 $tool.mqfs --help
		[[ $output == *"See $tool.mqfs(8)"* ]]
	done
}

# rich - a store that was killed, with some of everything; $before is what is in it.
rich() {
	"$MQFS_PROGRAM" "$S" "$M"
	mkdir "$M/topics/orders" "$M/topics/orders/groups/g" "$M/queues/jobs" "$M/queues/other" "$M/exchanges/x"
	mkdir "$M/exchanges/x/bindings/a.*"
	ln -s "$M/queues/jobs" "$M/exchanges/x/bindings/a.*/j"
	echo 77 >"$M/topics/orders/config/retention.ms"
	chmod 750 "$M/topics/orders"
	seq 5 >>"$M/topics/orders/in"
	seq 11 15 >>"$M/queues/jobs/in"
	head -n 2 "$M/topics/orders/groups/g/out" >/dev/null
	echo all >"$M/topics/orders/groups/g/ack"
	[ "$(cat "$M/queues/jobs/take")" = 11 ]
	sync "$M/topics/orders/in" "$M/queues/jobs/in"
	umount "$M"
	wait_gone "$(cat "$S/lock")"
	"$MQFS_PROGRAM" "$S" "$M"
	mkdir "$M/topics/later"
	seq 21 22 >>"$M/topics/later/in"
	mv "$M/queues/other" "$M/queues/renamed"
	[ "$(cat "$M/queues/jobs/take")" = 12 ]
	before=$(seen)
	sync "$M/topics/later/in"
	kill -9 "$(cat "$S/lock")"
	umount -l "$M"
	wait_gone "$(cat "$S/lock")"
}

# seen - names, modes, settings, messages and cursors of what is mounted.
seen() {
	(
		cd "$M" || exit
		find topics queues exchanges -mindepth 1 -maxdepth 3 -type d -printf '%p %m %U\n' | sort
		readlink 'exchanges/x/bindings/a.*/j'
		cat topics/orders/config/retention.ms topics/orders/0/log topics/later/0/log
		cat topics/orders/groups/g/offset
		for file in queues/jobs/ready/*; do cat "$file"; done
	)
}

@test "a damaged catalog is made anew from its copy: every name, message and cursor is there" {
	needs_mount
	rich
	cp -a "$S" "$S.whole"
	size=$(stat -c %s "$S/catalog")
	for damage in remove empty cut zeros noise flips; do
		rm -rf "$S"
		cp -a "$S.whole" "$S"
		case $damage in
		remove) rm "$S/catalog" ;;
		empty) : >"$S/catalog" ;;
		cut) truncate -s 9000 "$S/catalog" ;;
		zeros) dd if=/dev/zero of="$S/catalog" bs=4096 count=2 conv=notrunc status=none ;;
		noise) head -c "$size" /dev/urandom >"$S/catalog" ;;
		flips) for ((i = 8192; i < size; i += 4096)); do flip "$S/catalog" $((i + 3)); done ;;
		esac
		[ $damage = remove ] || cp "$S/catalog" "$BATS_TEST_TMPDIR/damaged"
		status 4 fsck.mqfs -n "$S"
		[[ $output == *'there is a copy of it, from which fsck.mqfs -y makes it anew'* ]]
		[ $damage = remove ] || cmp "$S/catalog" "$BATS_TEST_TMPDIR/damaged"
		run "$MQFS_PROGRAM" "$S" "$M"
		[ "$status" != 0 ]
		[[ $output == *'fsck.mqfs -y makes it anew from its copy'* ]] || fail_at "$damage: $output"
		status 1 fsck.mqfs -y "$S"
		[[ $output == *'the catalog is made anew from its copy, whose last change is of '*clean ]]
		[[ $output != *' lost'* ]]
		[ $damage = remove ] || cmp "$S/catalog.damaged" "$BATS_TEST_TMPDIR/damaged"
		status 0 fsck.mqfs -n "$S"
		"$MQFS_PROGRAM" "$S" "$M"
		after=$(seen)
		diff <(echo "$after") <(echo "$before") || fail_at "$damage"
		[[ $(cat "$M/status/health") == 'state ok'* ]]
		mkdir "$M/topics/new"
		echo 31 >>"$M/topics/new/in"
		echo hi >"$M/exchanges/x/keys/a.b"
		[ "$(cat "$M/topics/new/0/log")" = 31 ]
		[ "$(cat "$M/queues/jobs/take")" = 13 ]
		umount "$M"
		wait_gone "$(cat "$S/lock")"
		status 0 fsck.mqfs -n "$S"
	done
}

@test "a repair that is killed at any change of a file, or has no room, is done by the next" {
	local call n before status small=$BATS_TEST_TMPDIR/small runs=0
	needs_mount
	without_leaks
	rich
	dd if=/dev/zero of="$S/catalog" bs=4096 count=2 conv=notrunc status=none
	rm -f "$S/reserve"
	cp -a "$S" "$S.whole"
	status 1 fsck.mqfs -y "$S"
	before=$(fsck.mqfs --dump "$S" | grep -v '^record ')
	for call in renameat unlinkat fsync fdatasync ftruncate fallocate pwritev pwrite64; do
		# Of the writes one in fifteen: most are rows of the catalog that is made aside.
		for ((n = 1; ; n += $([ $call = pwrite64 ] && echo 15 || echo 1))); do
			rm -rf "$S"
			cp -a "$S.whole" "$S"
			status=0
			# In a shell of its own, which says nothing of the kill.
			bash -c 'exec strace -f -qq -o /dev/null -e trace=$1 -e inject=$1:signal=KILL:when=$2 fsck.mqfs -y "$3"' - $call $n "$S" >/dev/null 2>&1 || status=$?
			[ $status = 137 ] || break
			runs=$((runs + 1))
			run fsck.mqfs -y "$S"
			[ "$status" -le 1 ] || fail_at "after a kill at $call $n: $status: $output"
			status 0 fsck.mqfs --dump "$S" # 0: clean
			is "$(grep -v '^record ' <<<"$output")" "$before"
		done
		[ $status = 1 ] || fail_at "$call $n: $status"
	done
	[ $runs -gt 20 ]
	# Then without room: it was ended by SIGBUS.
	mkdir "$small"
	mount -t tmpfs -o size=$(($(du -s "$S.whole" | cut -f 1) + 4096))k none "$small"
	cp -a "$S.whole" "$small/store"
	rm -f "$small/store/catalog-lock"
	while head -c 1M /dev/zero; do :; done >"$small/fill" 2>/dev/null || true
	run fsck.mqfs -y "$small/store"
	[ "$status" = 8 ] || fail_at "on a full disk: $status: $output"
	[[ $output == *'No space left on device'* ]] || fail_at "on a full disk: $output"
	rm "$small/fill"
	status 1 fsck.mqfs -y "$small/store"
	status 0 fsck.mqfs -n "$small/store"
	is "$(fsck.mqfs --dump "$small/store" | grep -v '^record ')" "$before"
	umount "$small"
}

@test "a damaged catalog without a copy, or of a newer format, is left as it is" {
	needs_mount
	rich
	dd if=/dev/zero of="$S/catalog" bs=4096 count=2 conv=notrunc status=none
	sha=$(sha256sum "$S/catalog")
	mv "$S/catalog.copy" "$S/copy"
	status 4 fsck.mqfs -y "$S"
	[[ $output == *'there is no copy of the catalog'* ]]
	[ "$(sha256sum "$S/catalog")" = "$sha" ]
	mv "$S/copy" "$S/catalog.copy"
	flip "$S/catalog.copy" 100
	status 4 fsck.mqfs -y "$S"
	[[ $output == *'the copy of the catalog is damaged'* ]]
	flip "$S/catalog.copy" 100
	flip "$S/catalog.copy" $(($(stat -c %s "$S/catalog.copy") - 1)) # its last change
	status 1 fsck.mqfs -y "$S"
	[[ $output == *'the copy was damaged itself: what was made, named, set or removed after '*' may be lost'* ]]
	mkfs.mqfs -q "$S.2"
	cp "$S/catalog.copy" "$S.2"
	flip "$S.2/catalog" 8192
	status 4 fsck.mqfs -y "$S.2"
	[[ $output == *'the copy of the catalog is that of another store'* ]]
}

@test "lost logs, logs of nobody, files of another store, a newer format" {
	needs_mount
	filled
	f=$(dirname "$(data_of 12)")
	cp -a "$S" "$S.2"
	mv "$S.2/logs/$(basename "$f")" "$S.2/logs/00000000000000ff"
	status 4 fsck.mqfs -n "$S.2"
	[[ $output == *"log $(basename "$f") (number 0 of "*'it is not there'* ]]
	[[ $output == *'log 00000000000000ff belongs to nothing: 15 bytes of messages'* ]]
	for how in "-r $f" "$f/*.index" "$f/*.data $f/*.index"; do # what nothing but the catalog tells of
		rm -rf "$S.5"
		cp -a "$S" "$S.5"
		eval "rm -r ${how//$S/$S.5}"
		status 4 fsck.mqfs -n "$S.5"
		[[ $how == -r* && $output == *'it is not there; fsck.mqfs -y makes it anew'* || $output == *'has no segment'* ]]
		status 1 fsck.mqfs -y "$S.5"
		[[ $output == *'messages 0 to 4 are lost'* ]]
		[ -e "$S.5/logs/$(basename "$f")/00000000000000000005.index" ]
		status 0 fsck.mqfs -n "$S.5"
	done
	mkfs.mqfs -q "$S.3"
	cp -a "$S/catalog" "$S.3/"
	cp -a "$S"/logs/* "$S.3/logs/"
	status 4 fsck.mqfs -n "$S.3"
	[[ $output == *'the catalog is that of another store'* ]]
	catalog_row "$S.3" del f:8=0:=uuid # as one that is older
	status 4 fsck.mqfs -n "$S.3"
	[[ $output == *'is of another store'* ]]
	mkfs.mqfs -q "$S.4"
	cp -a "$S"/journal/* "$S.4/journal/"
	status 4 fsck.mqfs -n "$S.4"
	[[ $output == *'journal '*' belongs to another store'* ]]
	sed -i 's/format 1/format 2/' "$S.3/FORMAT"
	status 8 fsck.mqfs -n "$S.3"
	status 8 fsck.mqfs -n "$BATS_TEST_TMPDIR"
}

@test "a catalog of another store, in which all numbers are the same, is refused; the own one is made anew from its copy" {
	needs_mount
	filled
	own=$S
	S=$own.other filled
	cp "$own/catalog" "$own.kept"
	cp "$own.other/catalog" "$own/catalog"
	status 4 fsck.mqfs -n "$own"
	[[ $output == *'the catalog is that of another store'*'there is a copy of it'* ]]
	not "$MQFS_PROGRAM" "$own" "$M" 2>"$BATS_TEST_TMPDIR/err"
	grep -q 'the catalog is that of another store; fsck.mqfs -y makes it anew from its copy' "$BATS_TEST_TMPDIR/err"
	cmp "$own.other/catalog" "$own/catalog"
	status 1 fsck.mqfs -y "$own"
	status 0 fsck.mqfs -n "$own"
	"$MQFS_PROGRAM" "$own" "$M"
	[ "$(cat "$M/topics/orders/0/log")" = "$(seq 5)" ]
	umount "$M"
	wait_gone "$(cat "$own/lock")"
	# With its copy nothing of the own one is left: it stays refused, and is left alone.
	cp "$own.other"/catalog* "$own/"
	status 4 fsck.mqfs -y "$own"
	[[ $output == *'the catalog is that of another store'*'the copy of the catalog is that of another store'* ]]
	cmp "$own.other/catalog" "$own/catalog"
	# As an older daemon left it: it is taken as it is, and says whose it is from then on.
	cp "$own.kept" "$own/catalog"
	catalog_row "$own" del f:8=0:=uuid
	"$MQFS_PROGRAM" "$own" "$M"
	[ "$(cat "$M/topics/orders/0/log")" = "$(seq 5)" ]
	umount "$M"
	wait_gone "$(cat "$own/lock")"
	[ "$(catalog_row "$own" get f:8=0:=uuid)" = "$(sed 's/.*, //; s/-//g' "$own/FORMAT")" ]
	status 0 fsck.mqfs -n "$own"
}

@test "FORMAT is made anew, if all other parts agree whose it is" {
	needs_mount
	filled
	cp "$S/FORMAT" "$BATS_TEST_TMPDIR/format"
	for text in none '' 'mqfs store, format 1, 123' "$(head -c 70 /dev/zero | tr '\0' x)"; do
		printf %s "$text" >"$S/FORMAT"
		[ "$text" != none ] || rm "$S/FORMAT"
		not "$MQFS_PROGRAM" "$S" "$M" 2>"$BATS_TEST_TMPDIR/err"
		grep -q 'FORMAT is .*fsck.mqfs -y makes ' "$BATS_TEST_TMPDIR/err"
		status 4 fsck.mqfs -n "$S"
		[[ $output == *'FORMAT is missing or damaged; the other parts say which store it is'* ]]
		status 1 fsck.mqfs -y "$S"
		[[ $output == *'FORMAT is made anew'*clean* ]]
		cmp "$S/FORMAT" "$BATS_TEST_TMPDIR/format"
	done
	# Each part is enough.
	for part in catalog catalog.copy journal logs; do
		rm -rf "$S.2"
		cp -a "$S" "$S.2"
		rm "$S.2/FORMAT"
		[ $part = catalog ] || rm "$S.2/catalog"
		[ $part = catalog.copy ] || rm "$S.2/catalog.copy"
		[ $part = journal ] || rm "$S.2"/journal/*
		[ $part = logs ] || rm -r "$S.2"/logs/*
		[ $part = journal ] || [ $part = logs ] || mkdir "$S.2/logs/00000000000000ff"
		run fsck.mqfs -y "$S.2"
		[[ $output == *'FORMAT is made anew'* ]]
		cmp "$S.2/FORMAT" "$BATS_TEST_TMPDIR/format"
	done
	# Parts of two stores, a newer one, or nothing that says whose: it stays as it is.
	S=$S.other filled
	rm -rf "$S.2"
	cp -a "$S" "$S.2"
	rm "$S.2/FORMAT" "$S.2"/logs/*/*.index
	cp "$S.other"/journal/* "$S.2/journal/"
	status 8 fsck.mqfs -y "$S.2"
	[[ $output == *'cannot be told: '*'journal'*' of different ones'* ]]
	[ ! -e "$S.2/FORMAT" ]
	rm "$S.2"/catalog* "$S.2"/journal/*
	status 8 fsck.mqfs -y "$S.2"
	[[ $output == *'nothing in '*' says whose store it is'* ]]
	[ ! -e "$S.2/FORMAT" ]
	sed -i 's/format 1/format 2/' "$S/FORMAT"
	status 8 fsck.mqfs -y "$S"
	[[ $output == *'is of format 2'* ]]
}

@test "a store without spool/ is checked, and gets it" {
	"$TOOLS/mkfs.mqfs" -q "$S"
	rmdir "$S/spool"
	status 4 fsck.mqfs -n "$S"
	[[ $output == *'spool/ is not there: a mount makes it'* ]]
	[ ! -e "$S/spool" ]
	status 1 fsck.mqfs -y "$S"
	[ -d "$S/spool" ]
	status 0 fsck.mqfs -n "$S"
}

@test "every byte of a log's files cut off or flipped: found, or harmless; never a crash" {
	needs_mount
	filled
	dir=$(dirname "$(data_of 12)")
	for f in "$dir"/*.index "$dir"/*.data; do
		size=$(stat -c %s "$f")
		cp "$f" "$BATS_TEST_TMPDIR/copy"
		for ((i = 0; i < size; i++)); do
			flip "$f" $i
			run fsck.mqfs -n "$S"
			[ "$status" = 4 ] || [ "$status" = 0 ] || fail_at "flip $f $i: $status: $output"
			[[ $f != *.data || $status = 4 ]] || fail_at "flip $f $i was not found"
			cp "$BATS_TEST_TMPDIR/copy" "$f"
			truncate -s $i "$f"
			run fsck.mqfs -n "$S"
			[ "$status" = 4 ] || fail_at "cut $f at $i: $status: $output"
			cp "$BATS_TEST_TMPDIR/copy" "$f"
		done
	done
	status 0 fsck.mqfs -n "$S"
}

fail_at() {
	echo "$1"
	return 1
}

@test "a dump names what there is; progress goes to its descriptor" {
	needs_mount
	filled
	status 0 fsck.mqfs --dump "$S"
	[[ $output == *'topic '*' orders'*'queue '*' jobs'*'batch '*' messages 5 bytes 15 '* ]]
	status 8 bash -c 'fsck.mqfs --dump "$1" >/dev/full' - "$S"
	status 0 fsck.mqfs -n -C3 "$S" 3>/dev/null
	flip "$(data_of 12)" 3
	before=$(cd "$S" && find . -type f ! -name lock -exec sha256sum {} +)
	status 4 fsck.mqfs --dump -y "$S"
	[ "$(cd "$S" && find . -type f ! -name lock -exec sha256sum {} +)" = "$before" ]
	status 16 fsck.mqfs
	status 16 fsck.mqfs --unknown "$S"
	status 16 fsck.mqfs -Cx "$S"
}
