# Walks over the whole mount consume nothing, wait for nothing and stumble over nothing (trap 12 of messaging file systems).
load helpers

setup_file_once() {
	[ ! -d "$M/topics/full" ] || return 0
	mkdir "$M/topics/full" "$M/topics/empty" "$M/topics/full/groups/"{a,b} "$M/topics/empty/groups/c"
	echo 3 >"$M/topics/full/config/partitions"
	seq 1 1000 >>"$M/topics/full/in"
	printf 'needle\0\377\n' >"$M/topics/full/put/binary"
	t cat "$M/topics/full/groups/a/next" >/dev/null
	echo all >"$M/topics/full/groups/a/ack"
	echo waiting >"$M/topics/full/put/.hidden"
	mkdir "$M/queues/jobs" "$M/queues/jobs/consumers/c" "$M/exchanges/x" "$M/exchanges/x/bindings/#"
	ln -s ../../../../queues/jobs "$M/exchanges/x/bindings/#/jobs"
	seq 1 20 >>"$M/queues/jobs/in"
	t cat "$M/queues/jobs/next" "$M/queues/jobs/next" "$M/queues/jobs/consumers/c/next" >/dev/null
	ls "$M/queues/jobs/unacked" | head -n 1 >"$M/queues/jobs/reject" # a dead letter
}

setup() {
	[ -z "$OBSTACLE" ] || skip "$OBSTACLE"
	T=
	setup_file_once
	cd "$M"
	BEFORE=$(everything)
}

# As state(), and what is in queues and exchanges: each message, where it is, who has it, and how often it was delivered.
everything() {
	state
	find "$M/queues" "$M/exchanges" -printf '%p %m %U %G %l\n' | sort
	find "$M/queues" -path '*/[ru][en]a[dc]*/*' -type f -exec md5sum {} + | sort
	grep -r '' "$M/queues" --include=info | grep -v -e readers -e oldest -e '/[ru][en]a[dc]' | sort
}

# walks COMMAND... - ends in time with status 0, and nothing was consumed or changed by it.
walks() {
	timeout 60 "$@" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" </dev/null 3>&- || {
		printf '%s: status %s\n' "$*" $?
		head -n 20 "$BATS_TEST_TMPDIR/err"
		return 1
	}
	is "$(everything)" "$BEFORE"
}

@test "grep -r finds what the logs hold, once per place, and reads nothing else" {
	walks grep -r -a needle "$M"
	grep -q /log: "$BATS_TEST_TMPDIR/out"
	not grep -q groups "$BATS_TEST_TMPDIR/out"
	walks grep -r -c '' "$M"
	walks grep -rIl 1 .
}

@test "find, find -type f -exec cat, find -exec file, find -newer, find -size" {
	walks find "$M"
	not grep -q -E '/\.(next|wait|out|stream|events)' "$BATS_TEST_TMPDIR/out"
	walks find "$M" -type f -exec head -c 100 {} +
	walks find "$M" -type f -exec file {} +
	walks find "$M" -type l -printf '%p %l\n'
	grep -q '/next .next$' "$BATS_TEST_TMPDIR/out"
	walks find "$M" -newer "$M/README" -size +1 -perm -u+r -user root
	walks find "$M" -depth -name '*.json'
}

@test "tar, cp -a, rsync -a and cpio make a copy of all there is to see" {
	local copy=$BATS_TEST_TMPDIR/copy
	walks tar -C "$M" -cf "$BATS_TEST_TMPDIR/mq.tar" .
	tar -tf "$BATS_TEST_TMPDIR/mq.tar" >/dev/null
	walks cp -a "$M" "$copy"
	cmp "$copy/topics/full/0/log" topics/full/0/log
	[ -L "$copy/topics/full/groups/a/next" ]
	rm -rf "$copy"
	walks rsync -a "$M/" "$copy/"
	cmp "$copy/topics/full/1/log" topics/full/1/log
	walks rsync -a --checksum --delete "$M/" "$copy/"
	rm -rf "$copy"
	walks cp -r "$M" "$copy"
}

@test "ls -lR, du, df, stat, tree-like walks, updatedb, lsof, fuser" {
	walks ls -laR "$M"
	walks du -a "$M"
	walks du --apparent-size -s "$M"
	walks df "$M" -i
	walks df "$M"
	walks stat -f "$M"
	walks python3 -c '
import os, sys
for path, dirs, files in os.walk(sys.argv[1]):
    for name in dirs + files:
        os.lstat(os.path.join(path, name))
        os.listxattr(os.path.join(path, name), follow_symlinks=False)
' "$M"
	if command -v updatedb >/dev/null; then
		walks updatedb -l 0 -U "$M" -o "$BATS_TEST_TMPDIR/db" --prunefs '' --prunepaths ''
	fi
	if command -v lsof >/dev/null; then
		timeout 60 lsof "$M" >/dev/null 2>&1 3>&- || true
	fi
	is "$(everything)" "$BEFORE"
}

@test "a read of every listed file ends, and consumes nothing: cat, md5sum, file, wc, diff -r" {
	local files
	mapfile -t files < <(find "$M" -type f)
	[ ${#files[@]} -gt 60 ]
	walks cat "${files[@]}"
	walks md5sum "${files[@]}"
	walks file "${files[@]}"
	walks wc "${files[@]}"
	walks diff -r "$M/topics/full/groups/a/config" "$M/topics/full/groups/b/config"
}

@test "walks as another user stop where permission ends, and do not hang" {
	run timeout 60 setpriv --reuid 65534 --regid 65534 --clear-groups grep -r needle "$M" 3>&-
	[ "$status" != 124 ]
	run timeout 60 setpriv --reuid 65534 --regid 65534 --clear-groups tar -C "$M" -cf - . 3>&-
	[ "$status" != 124 ]
	is "$(everything)" "$BEFORE"
}

@test "while readers wait, walks end all the same, and the readers wait on" {
	local i
	cat topics/empty/groups/c/wait >"$BATS_TEST_TMPDIR/got" 3>&- &
	blocked $!
	walks grep -r -a needle "$M"
	walks tar -C "$M" -cf "$BATS_TEST_TMPDIR/mq.tar" .
	walks find "$M" -type f -exec head -c 10 {} +
	kill -0 $!
	kill $!
	wait $! || true
	is "$(cat "$BATS_TEST_TMPDIR/got")" ''
}

@test "shell globs: grep x *, file *, cat */info in a group's directory do not touch what consumes unless it is named" {
	cd topics/full
	walks file 0/*
	walks cat info groups/*/info */log
	cd groups/b
	walks ls -l
	walks tar -cf "$BATS_TEST_TMPDIR/g.tar" .
	walks cp -a . "$BATS_TEST_TMPDIR/g"
	walks file -h ./*
}
