#!/usr/bin/env bats
# fsck.mqfs: what no part of a store can know of the others. Rows of the catalog are changed by catalog_row.py, with a right checksum.

load ../mount/helpers

HERE=$(dirname "$BATS_TEST_FILENAME")

# One store for all: a topic of two partitions with a group, a queue of two priorities, an exchange with a binding.
setup_file() {
	export S=$BATS_FILE_TMPDIR/store M=$BATS_FILE_TMPDIR/mq
	mkdir -p "$M"
	OBSTACLE=$(obstacle)
	export OBSTACLE
	[ -z "$OBSTACLE" ] || return 0
	mount_store
	mkdir "$M/topics/orders" "$M/topics/orders/1" "$M/topics/orders/groups/g" "$M/queues/jobs" "$M/exchanges/x" "$M/exchanges/x/bindings/a"
	ln -s "$M/queues/jobs" "$M/exchanges/x/bindings/a/link"
	seq 5 >>"$M/topics/orders/0/in"
	cat "$M/topics/orders/groups/g/next" >"$BATS_FILE_TMPDIR/out"
	echo all >"$M/topics/orders/groups/g/ack"
	seq 11 15 >>"$M/queues/jobs/in"
	echo 16 >>"$M/queues/jobs/priority/9/in"
	cat "$M/queues/jobs/take" >"$BATS_FILE_TMPDIR/out"
	unmount
	mv "$S" "$S.whole"
}

setup() {
	[ -z "$OBSTACLE" ] || skip "$OBSTACLE"
	T=
	FSCK=$(dirname "$MQFS_PROGRAM")/fsck.mqfs
	rm -rf "$S"
	cp -a "$S.whole" "$S"
	"$FSCK" --dump "$S" >"$BATS_TEST_TMPDIR/dump"
	topic=$(id_of topic orders) group=$(id_of group g) jobs=$(id_of queue jobs) x=$(id_of exchange x)
}

teardown() {
	cd /
	! mountpoint -q "$M" || unmount
	kill -KILL %% 2>/dev/null || true
}

# id_of KIND NAME - the number of an object, by the dump
id_of() {
	awk -v kind="$1" -v name="$2" '$1 == kind && $NF == name { print $2 }' "$BATS_TEST_TMPDIR/dump"
}

row() {
	python3 "$HERE/catalog_row.py" "$S" "$@"
}

# finds STATUS TEXT [OPTION...] - what fsck.mqfs answers
finds() {
	local want=$1 text=$2
	shift 2
	run t "$FSCK" "${@:--n}" "$S"
	[[ $status = "$want" && $output == *"$text"* ]] || {
		printf 'exit status %s, not %s, or no "%s":\n%s\n' "$status" "$want" "$text" "$output"
		return 1
	}
}

# content - of all logs
content() {
	(cd "$S/logs" && find . -type f -exec sha256sum {} + | sort)
}

# is_damage TEXT - it is found, and stays; nothing of the logs is lost by a repair
is_damage() {
	local before after
	before=$(cat "$S"/logs/*/*.data | sort)
	finds 4 "$1"
	[[ $output == *' damaged' ]]
	finds 5 "$1" -y
	after=$(cat "$S"/logs/*/*.data | sort)
	is "$after" "$before"
}

# is_unfinished TEXT - a mount puts it right
is_unfinished() {
	finds 4 "$1"
	[[ $output == *'not ended in order'* ]]
	finds 1 '' -y
	finds 0 clean
}

@test "the store is clean before anything is done to it" {
	finds 0 clean
}

@test "a log that two objects name: neither fsck -y nor a mount writes to it, and it can be read" {
	local log before
	log=$(row get "p:8=$jobs:4=9")
	row put "p:8=$topic:4=1" "x=$log"
	before=$(content)
	finds 4 "belongs to $topic and to $jobs"
	finds 4 "belongs to $topic and to $jobs" -y
	is "$(content)" "$before"
	run mount_store
	[ "$status" != 0 ]
	grep -q 'belongs to two objects of the catalog' "$BATS_FILE_TMPDIR/said"
	is "$(content)" "$before"
	mount_store -o ro
	is "$(cat "$M/topics/orders/1/log") $(cat "$M/topics/orders/0/log" | tr '\n' ' ')" '16 1 2 3 4 5 '
	grep -q 'belongs to two objects' "$M/status/health"
	unmount
	is "$(content)" "$before"
}

@test "names and children that are not those of the objects" {
	row del "n:8=1:1=1:=orders"
	is_damage "topic $topic (orders) is not found by its name"
	row put "n:8=1:1=1:=orders" "8=$topic"
	row put "n:8=1:1=1:=other" "8=$topic"
	is_damage "the name other below 1 is said to be number $topic, which is another"
	row put "n:8=1:1=1:=other" "8=999"
	is_damage 'the name other below 1 is said to be number 999, which is not there'
	row del "n:8=1:1=1:=other"
	row del "c:8=1:1=1:8=$topic"
	is_damage "topic $topic (orders) is not found by its name, or not listed: the row of the list is lost"
	row put "c:8=1:1=1:8=$topic"
	row put "c:8=1:1=3:8=$topic"
	is_damage "a child below 1 is said to be number $topic, which is another"
	row del "c:8=1:1=3:8=$topic"
	is_unfinished 'its copy is not in step with it'
}

@test "an object that has no place where it is; one without its dead letters" {
	local value dlq
	value=$(row get "o:8=$group")
	row put "o:8=$group" "8=$jobs:x=${value:16}"
	finds 4 "group $group (g) has no place below number $jobs"
	row put "o:8=$group" "x=$value"
	dlq=$(awk -v jobs="$jobs" '$1 == "queue" && $4 == jobs { print $2 }' "$BATS_TEST_TMPDIR/dump")
	row del "o:8=$dlq"
	row del "n:8=$jobs:1=3:=dlq"
	row del "c:8=$jobs:1=3:8=$dlq"
	is_damage "queue $jobs (jobs) has lost its dead letters (dlq)"
	[[ $output == *"table 's' has rows of object $dlq, which is not there"* ]]
}

@test "a group that has no dead letters yet gets them" {
	local dlq
	dlq=$(awk -v group="$group" '$1 == "queue" && $4 == group { print $2 }' "$BATS_TEST_TMPDIR/dump")
	row del "o:8=$dlq"
	row del "n:8=$group:1=3:=dlq"
	row del "c:8=$group:1=3:8=$dlq"
	row del "s:8=$dlq:1=0:=dead.letter.to"
	row del "s:8=$dlq:1=0:=delivery.limit"
	is_unfinished "group $group (g) has no dead letters yet: a mount makes them"
}

@test "numbers that would be given again" {
	local next
	next=$(row get f:8=0:=next_id)
	row put f:8=0:=next_id 8=3
	finds 4 "has a number that will be given again: the next is 3"
	[[ $output == *"log "*" has a number that will be given again"* ]]
	row put f:8=0:=next_id "x=$next"
	row put f:8=0:=next_message_id 8=2
	finds 4 'message 6 has a number that will be given again: the next is 2'
}

@test "rows of nobody; partitions and priorities that are lost, or cannot be" {
	row put s:8=999:1=0:=linger.ms =5
	is_damage "table 's' has rows of object 999, which is not there"
	row del s:8=999:1=0:=linger.ms
	row put "p:8=$jobs:4=12" 8=998
	finds 4 "queue $jobs (jobs): number 12 of its logs is more than it can have"
	row del "p:8=$jobs:4=12"
	row del "p:8=$topic:4=0"
	finds 4 "topic $topic (orders) has lost a partition: there are 1, up to number 1"
}

@test "offsets of groups beyond the log, as a power cut may leave them; in partitions that are not there" {
	row put "u:8=$group:4=0" 8=99:8=99:8=0
	is_unfinished "group $group (g) stands at 99 in partition 0, beyond the end, 5: a mount puts it there"
	mount_store
	is "$(cat "$M/topics/orders/groups/g/0/offset")" 5
	unmount
	row put "u:8=$group:4=7" 8=0:8=0:8=0
	is_damage "group $group (g) has an offset in partition 7, which its topic has not"
}

@test "what a queue knows of messages that are not there" {
	row put "q:8=$jobs:1=0" 8=99:8=0
	is_unfinished "queue $jobs (jobs) knows of messages up to 99 of priority 0, beyond the end, 5: a mount leaves that out"
	row put "q:8=$jobs:1=4" 8=1:8=0
	is_damage "queue $jobs (jobs) knows of messages of priority 4, which has no log"
}

@test "bindings to what is not there, or cannot be bound, or without their pattern" {
	row put "b:8=$x:=a:1=0:=lost" 8=999
	is_damage "exchange $x (x): the binding lost leads to number 999, which is not there"
	row put "b:8=$x:=a:1=0:=lost" "8=$group"
	is_damage "exchange $x (x): the binding lost leads to number $group, which is nothing that can be bound"
	row del "b:8=$x:=a:1=0:=lost"
	row del "b:8=$x:=a:1=0"
	is_damage "exchange $x (x): the pattern of the binding link is lost"
}

@test "what is no part of the store hurts nobody" {
	touch "$S/notes" "$S/journal/notes" "$S/staging/notes" "$S/logs/notes" "$S/catalog.damaged-2" "$S/staging/0000000000000009.damaged"
	finds 0 clean
	[[ $output == *': notes is no part of the store'*': journal/notes is no part of the store'*': staging/notes is no part of the store'* ]]
	[[ $output == *': logs/notes is no log'* && $output != *.damaged* ]]
}

@test "a log that cannot be listed is not taken for an empty one" {
	touch "$S/logs/00000000000000ff"
	finds 4 'log 00000000000000ff cannot be listed: Not a directory'
	rm "$S/logs/00000000000000ff"
	mkdir "$S/logs/00000000000000ff"
	finds 4 'log 00000000000000ff belongs to nothing, and is empty'
	cat >"$BATS_TEST_TMPDIR/fail.c" <<-'END'
		#define _GNU_SOURCE
		#include <dirent.h>
		#include <dlfcn.h>
		#include <errno.h>
		#include <stdio.h>
		#include <string.h>
		#include <unistd.h>
		static struct dirent *next(DIR *dir)
		{
			char link[64], path[4096] = "";
			snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd(dir));
			if (readlink(link, path, sizeof(path) - 1) < 0 || strstr(path, "00000000000000ff") == NULL)
				return ((struct dirent * (*)(DIR *))dlsym(RTLD_NEXT, "readdir"))(dir);
			errno = EIO;
			return NULL;
		}
		struct dirent *readdir(DIR *dir) { return next(dir); }
		struct dirent64 *readdir64(DIR *dir) { return (struct dirent64 *)next(dir); }
	END
	gcc -shared -fPIC -w -o "$BATS_TEST_TMPDIR/fail.so" "$BATS_TEST_TMPDIR/fail.c" -ldl
	LD_PRELOAD=$BATS_TEST_TMPDIR/fail.so ASAN_OPTIONS=verify_asan_link_order=0 run "$FSCK" -n "$S"
	[[ $status = 4 && $output == *'log 00000000000000ff cannot be listed: Input/output error'* ]] || { echo "$output"; return 1; }
	[[ $output != *'belongs to nothing'* ]]
}
