#!/usr/bin/env bats
# Named members of a group: who has which partition, sessions, rejecting, dead letters.
load helpers

# four - a topic with four partitions and ten messages in each; a group; goes to the group.
four() {
	topic 4
	group
	for p in 0 1 2 3; do seq "${p}0" "${p}9" | sed 's/^0*\(.\)/\1/' >>"$p/in"; done
	cd "$G"
}

# has MEMBER - its partitions, as info says
has() {
	awk -v name="$1" '$1 == "member" && $2 == name { print $4 }' "$G/info"
}

@test "partitions are shared among the members, and few change hands" {
	four
	mkdir members/a
	is "$(has a)" 0,1,2,3
	mkdir members/b
	is "$(has a) $(has b)" '0,1 2,3'
	mkdir members/c
	is "$(has a) $(has b) $(has c)" '0,1 2 3'
	rmdir members/a
	is "$(($(has b | tr , '\n' | wc -l) + $(has c | tr , '\n' | wc -l)))" 4
	echo 6 >"$T/config/partitions"
	is "$(has b | tr , '\n' | wc -l) $(has c | tr , '\n' | wc -l)" '3 3'
}

share_check() {
	cd "$T"
	echo 4 >config/partitions
	group
	cd "$G"
	mkdir members/a members/b
	for p in 0 1 2 3; do seq 5 >>"$T/$p/in"; done
	in_shell 'cat members/a/out members/b/out' >"$BATS_TEST_TMPDIR/all"
	is "$(sort "$BATS_TEST_TMPDIR/all" | uniq -c | awk '{ print $1 }' | uniq)" 4
	in_shell 'echo all > members/a/ack; echo all > members/b/ack'
	is "$(cat offset | tr '\n' ' ')" '0 5 1 5 2 5 3 5 '
	is "$(t cat members/a/out members/b/out)" ''
}

@test "each message goes to one member, and acks are its own (bash, dash)" {
	each_shell share_check
}

@test "a partition that is lost: ESTALE; what was not acknowledged goes to the next; no offset goes back" {
	four
	mkdir members/a
	t cat members/a/out >/dev/null
	echo 3:4 >members/a/ack
	mkdir members/b
	is "$(has b)" 2,3
	fails ESTALE bash -c 'echo 3:7 > members/a/ack'
	told ESTALE 'another member'
	is "$(grep ^3 offset)" '3 5'
	echo all >members/a/ack
	is "$(cat offset | tr '\n' ' ')" '0 10 1 10 2 0 3 5 '
	is "$(t cat members/b/out | sort -n | tr '\n' ' ')" "$(seq 20 29 | tr '\n' ' ')$(seq 35 39 | tr '\n' ' ')"
	fails EALREADY bash -c 'echo 3:4 > members/b/ack'
	fails ERANGE bash -c 'echo 3:10 > members/b/ack'
	fails EINVAL bash -c 'echo bogus > members/b/ack'
	rmdir members/b
	is "$(cat offset | tr '\n' ' ')" '0 10 1 10 2 0 3 5 '
}

@test "the group's own files are EBUSY while there is a named member" {
	four
	t cat next >/dev/null
	mkdir members/a
	fails EBUSY cat next
	fails EBUSY cat out
	fails EBUSY bash -c 'echo all > ack'
	fails EBUSY bash -c 'echo all > reject'
	rmdir members/a
	t cat next >/dev/null
	echo all >ack
	is "$(head -n 1 offset)" '0 1'
}

session_check() {
	echo 2 >config/partitions
	group
	cd "$G"
	mkdir members/a members/b
	is "$(has a) $(has b)" '0 1'
	in_shell 'exec 9>members/b/session; kill -9 $$' || true
	is "$(has a) $(has b)" '0,1 -'
	t cat members/b/next
	is "$(has a) $(has b)" '0 1'
	cd "$T"
}

@test "a session that ends, however, is leaving at once; the next read joins again (bash, dash)" {
	each_shell session_check
}

@test "who is silent for session.timeout.ms leaves, but not who holds a session or a stream" {
	four
	mkdir members/silent members/held members/reads
	exec 9>members/held/session
	cat members/reads/stream >/dev/null 3>&- 9>&- &
	echo 200 >config/session.timeout.ms
	eventually eval '[ "$(has silent)" = - ]'
	is "$(has held | tr , '\n' | wc -l) $(has reads | tr , '\n' | wc -l)" '2 2'
	exec 9>&-
	kill -9 $!
	eventually eval '[ "$(has reads)" = - ]'
	t cat next >/dev/null
}

@test "streams of members: a rebalance wakes who waits" {
	four
	mkdir members/a members/b
	cat members/b/stream >"$BATS_TEST_TMPDIR/b" 3>&- &
	eventually eval '[ "$(wc -l < "$BATS_TEST_TMPDIR/b")" = 20 ]'
	rmdir members/a
	eventually eval '[ "$(wc -l < "$BATS_TEST_TMPDIR/b")" = 40 ]'
	kill -9 $!
}

@test "reject: to the dlq with its death, committed; redrive produces it again; rmdir wants an empty dlq" {
	topic
	group
	cd "$G"
	echo good >>"$T/in"
	echo bad >>"$T/keys/k"
	mkdir members/a
	t cat members/a/out >/dev/null
	echo 0:0 >members/a/ack
	echo 0:1 >members/a/reject
	is "$(cat offset)" '0 2'
	is "$(cat dlq/ready/[0-9]*)" bad
	is "$(grep -o '"deaths":\[{"queue":"[^"]*","reason":"rejected","count":1' "dlq/ready/$(ls dlq/ready).json")" \
		"\"deaths\":[{\"queue\":\"${T##*/}/groups/g\",\"reason\":\"rejected\",\"count\":1"
	fails ENOTEMPTY rmdir "$G"
	echo all >"$T/purge"
	fails ENOTEMPTY rmdir "$T"
	crash
	is "$(cat "$G"/dlq/ready/[0-9]*)" bad
	is "$(cat "$G/offset")" '0 2'
	echo all >"$G/dlq/redrive"
	is "$(t cat "$G/members/a/next.json" | grep -o '"offset":2.*"key":"k"' | cut -c1-10)" '"offset":2'
	is "$(ls "$G/dlq/ready")" ''
	mkdir "$M/queues/late"
	echo all >"$G/members/a/reject"
	mv "$G"/dlq/ready/* "$M/queues/late/ready/"
	is "$(cat "$M"/queues/late/ready/*)" bad
	rm "$M"/queues/late/ready/*
	rmdir "$M/queues/late"
	cd "$T"
	rmdir "$G"
}

@test "members are there after a remount, and the partitions are theirs" {
	four
	mkdir members/a members/b
	t cat members/a/out >/dev/null
	echo all >members/a/ack
	remount
	is "$(has a) $(has b)" '0,1 2,3'
	is "$(t cat "$G/members/a/out")" ''
	is "$(t cat "$G/members/b/out" | wc -l)" 20
}

@test "after a kill -9 a member acknowledges nothing that another was given" {
	four
	mkdir members/a
	rmdir members/a
	mkdir members/b members/a
	is "$(has b) $(has a)" '0,1 2,3'
	t cat members/b/out members/a/out >/dev/null
	crash
	cd "$G"
	echo all >members/a/ack
	echo all >members/b/ack
	is "$(cat offset | tr '\n' ' ')" '0 0 1 0 2 0 3 0 '
	is "$(t cat members/a/out members/b/out | wc -l)" 40
}

@test "another user joins where the modes let him, and his files are his" {
	four
	chmod a+rwx members
	t setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'mkdir members/n && cat members/n/out | wc -l && echo all > members/n/ack'
	is "$(stat -c %U members/n/ack)" nobody
	mkdir members/r
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'cat members/r/next'
	chmod 755 members
}
