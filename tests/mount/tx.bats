#!/usr/bin/env bats
# Transactions: what is staged below tx/NAME/ happens at commit, all at once, or not at all.
load helpers

# objects - a queue $Q with five messages and a consumer, a topic $T with a group $G
objects() {
	local made
	topic
	group
	made=$T
	queue
	T=$made
	mkdir "$Q/consumers/w1"
	seq 5 >>"$Q/in"
	seq 3 >>"$T/in"
	q=${Q##*/} t=${T##*/} X=$M/tx/$q
	cd "$M"
}

open_check() {
	objects
	export Q T X q t
	in_shell 'mkdir "$X"; cat "$X/state"
		echo staged >> "$X/queues/$q/in"
		printf "%s\n" a b > "$X/topics/$t/in"
		echo keyed >> "$X/topics/$t/keys/k"
		echo first >> "$X/queues/$q/head"
		echo high >> "$X/queues/$q/priority/9/in"
		printf whole > "$X/queues/$q/put/file"
		printf "{\"payload\":\"record\",\"priority\":1}\n" >> "$X/queues/$q/in.json"' >"$BATS_TEST_TMPDIR/said"
	is "$(cat "$BATS_TEST_TMPDIR/said")" open
	is "$(ls "$Q/ready" | wc -l) $(cat "$T/0/log" | wc -l)" '5 3'
	in_shell 'echo commit > "$X/state"; cat "$X/state"' >"$BATS_TEST_TMPDIR/said"
	is "$(cat "$BATS_TEST_TMPDIR/said")" committed
	is "$(t cat "$Q/out" | tr '\n' ' ')" 'high record first 1 2 3 4 5 staged whole '
	is "$(tail -n +4 "$T/0/log" | tr '\n' ' ')" 'a b keyed '
	in_shell 'echo commit > "$X/state" && rmdir "$X"'
	[ ! -e "$X" ]
}

@test "everything that produces can be staged, and comes with the commit (bash, dash)" {
	each_shell open_check
}

settle_check() {
	objects
	export Q T G X q t
	group_name=${G##*/}
	export group_name
	t cat "$Q/consumers/w1/out" >/dev/null
	t cat "$G/out" >/dev/null
	ids=$(ls "$Q/unacked" | sed 's/^0*//')
	set -- $ids
	export a=$1 b=$2 c=$3
	in_shell 'mkdir "$X"; cd "$X"
		echo $a > queues/$q/consumers/w1/ack
		echo $b > queues/$q/consumers/w1/nack
		echo $c > queues/$q/consumers/w1/reject
		echo made of $a >> topics/$t/in
		echo 0:1 > topics/$t/groups/$group_name/ack'
	is "$(ls "$Q/unacked" | wc -l) $(ls "$Q/dlq/ready" | wc -l) $(cat "$G/offset")" '5 0 0 0'
	in_shell 'cd "$X"; echo commit > state'
	is "$(ls "$Q/unacked" | wc -l) $(ls "$Q/ready" | wc -l) $(ls "$Q/dlq/ready" | wc -l) $(cat "$G/offset")" '2 1 1 0 2'
	is "$(tail -n 1 "$T/0/log")" "made of $a"
	rmdir "$X"
}

@test "acks, nacks, rejects and offsets are settled with it (bash, dash)" {
	each_shell settle_check
}

@test "rollback, rmdir and time undo; what is asked of an ended one" {
	objects
	mkdir "$X"
	echo no >>"$X/queues/$q/in"
	echo rollback >"$X/state"
	is "$(cat "$X/state")" aborted
	echo rollback >"$X/state"
	fails ECANCELED bash -c "echo commit > '$X/state'"
	told ECANCELED 'rolled back'
	fails ECANCELED bash -c "echo no >> '$X/queues/$q/in'"
	[[ $(tail -n 1 "$M/status/errors") == *" tx/${X##*/}/queues/$q/in: "* ]]
	rmdir "$X"
	mkdir "$X"
	echo no >>"$X/queues/$q/in"
	rmdir "$X"
	echo 100 >"$M/config/tx/tx.timeout.ms"
	mkdir "$X"
	echo 60000 >"$M/config/tx/tx.timeout.ms"
	echo no >>"$X/queues/$q/in" || true
	eventually eval '[ "$(cat "$X/state")" = aborted ]'
	fails ETIMEDOUT bash -c "echo commit > '$X/state'"
	told ETIMEDOUT 'tx.timeout.ms'
	[[ $(tail -n 1 "$M/status/errors") == *' tx/'*'/state: '* ]]
	rmdir "$X"
	mkdir "$X"
	echo commit >"$X/state"
	fails EALREADY bash -c "echo rollback > '$X/state'"
	fails EINVAL bash -c "echo now > '$X/state'"
	told EINVAL 'commit or rollback'
	[[ $(tail -n 1 "$M/status/errors") == *" tx/${X##*/}/state: "* ]]
	rmdir "$X"
	is "$(ls "$Q/ready" | wc -l)" 5
}

@test "only what is held can be staged; what was lost undoes all; what is full leaves it open" {
	objects
	id=$(ls "$Q/ready" | head -n 1)
	mkdir "$X" "$X.2"
	fails ENOENT bash -c "echo $id > '$X/queues/$q/consumers/w1/ack'"
	t cat "$Q/consumers/w1/next" >/dev/null
	echo "$id" >"$X/queues/$q/consumers/w1/ack"
	echo "$id" >"$X.2/queues/$q/consumers/w1/ack"
	fails EALREADY bash -c "echo $id > '$X/queues/$q/consumers/w1/ack'"
	echo x >>"$X/topics/$t/in"
	echo y >>"$X.2/topics/$t/in"
	echo commit >"$X/state"
	fails ESTALE bash -c "echo commit > '$X.2/state'"
	told ESTALE 'not leased'
	is "$(cat "$X.2/state") $(tail -n 1 "$T/0/log")" 'aborted x'
	rmdir "$X" "$X.2"
	mkdir "$X"
	echo reject-publish >"$Q/config/overflow"
	echo 5 >"$Q/config/max.length"
	printf '%s\n' a b >>"$X/queues/$q/in"
	echo z >>"$X/topics/$t/in"
	fails EDQUOT bash -c "echo commit > '$X/state'"
	told EDQUOT "the queue $q is full"
	is "$(cat "$X/state") $(tail -n 1 "$T/0/log")" 'open x'
	echo 6 >"$Q/config/max.length"
	echo commit >"$X/state"
	is "$(tail -n 1 "$T/0/log") $(ls "$Q/ready" | wc -l)" 'z 6'
	rmdir "$X"
}

@test "status/errors names the target that refuses a commit" {
	objects
	mkdir "$X" "queues/$q.2"
	echo long >>"$X/topics/$t/in"
	echo x >>"$X/queues/$q.2/in"
	echo 3 >"$T/config/max.message.bytes"
	fails EMSGSIZE bash -c "echo commit > '$X/state'"
	told EMSGSIZE "for the topic $t"
	echo 4 >"$T/config/max.message.bytes"
	rmdir "queues/$q.2"
	fails EIDRM bash -c "echo commit > '$X/state'"
	told EIDRM "the queue $q.2 was removed"
	rmdir "$X"
}

@test "the tree of a transaction: listed is what is staged, found is all that can be, nothing consumes" {
	objects
	mkdir "$X"
	is "$(ls "$X" | tr '\n' ' ')" 'exchanges queues state topics '
	is "$(ls "$X/queues")" ''
	echo x >>"$X/queues/$q/in"
	is "$(ls "$X/queues")" "$q"
	is "$(ls "$X/topics")" ''
	is "$(ls "$X/queues/$q" | tr '\n' ' ')" 'ack consumers head in nack priority put reject '
	for name in next .next out stream take ready unacked config info purge dlq; do
		[ ! -e "$X/queues/$q/$name" ] || { echo "$name is there"; return 1; }
	done
	fails EPERM mkdir "$X/queues/other"
	fails EPERM rmdir "$X/queues/$q"
	fails EPERM mv "$X/queues/$q" "$X/queues/other"
	fails EPERM chmod 777 "$X/queues/$q/in"
	is "$(stat -c %a "$X")" 700
	t grep -r nothing "$X" || true
	rmdir "$X"
	is "$(ls "$Q/ready" | wc -l)" 5
}

@test "an open line is not in it; a file in put/ that waits for its rename is not; its message comes with the commit" {
	objects
	mkdir "$X"
	exec 8>>"$X/queues/$q/in"
	printf 'whole\nhal' >&8
	printf later >"$X/queues/$q/put/.hidden"
	mv "$X/queues/$q/put/.hidden" "$X/queues/$q/put/shown"
	echo commit >"$X/state"
	exec 8>&-
	told EALREADY 'committed'
	is "$(t cat "$Q/out" | tail -n 2 | tr '\n' ' ')" 'whole later '
	rmdir "$X"
}

@test "through an exchange: routed by the commit" {
	objects
	mkdir -p "$M/exchanges/$q/bindings/a.*"
	mkdir "$X"
	fails EHOSTUNREACH bash -c "echo x >> '$X/exchanges/$q/keys/a.b'"
	ln -s "../../../../queues/$q" "$M/exchanges/$q/bindings/a.*/q"
	ln -s "../../../../topics/$t" "$M/exchanges/$q/bindings/a.*/t"
	echo routed >>"$X/exchanges/$q/keys/a.b"
	is "$(ls "$X/exchanges")" "$q"
	is "$(ls "$Q/ready" | wc -l)" 5
	echo commit >"$X/state"
	is "$(tail -n 1 "$T/0/log") $(t cat "$Q/out" | tail -n 1)" 'routed routed'
	rmdir "$X"
}

@test "after kill -9: what was committed is, what was open is aborted, its leases are what they were" {
	objects
	t cat "$Q/next" >/dev/null
	id=$(ls "$Q/unacked")
	mkdir "$X" "$X.2"
	echo kept >>"$X/queues/$q/in"
	echo commit >"$X/state"
	echo lost >>"$X.2/queues/$q/in"
	echo "$id" >"$X.2/queues/$q/ack"
	crash
	cd "$M"
	is "$(cat "$X/state") $(cat "$X.2/state")" 'committed aborted'
	is "$(grep -c '^mqfs_transactions{state="open"} 0$' "$M/status/metrics")" 1
	grep -q '^mqfs_transactions{state="committed"} [1-9]' "$M/status/metrics"
	echo commit >"$X/state"
	fails ECANCELED bash -c "echo commit > '$X.2/state'"
	is "$(ls "$Q/unacked")" "$id"
	is "$(t cat "$Q/out" | tail -n 1)" kept
	rmdir "$X" "$X.2"
}

@test "two shells stage over the same objects at once; a thousand transactions are open at once" {
	objects
	mkdir "$X.a" "$X.b"
	for x in a b; do
		bash -c "for i in \$(seq 100); do echo $x\$i >> '$X.$x/queues/$q/in'; done" 3>&- &
	done
	wait
	echo commit >"$X.b/state"
	echo commit >"$X.a/state"
	is "$(t cat "$Q/out" | sed -n '6p;106p' | tr '\n' ' ')" 'b1 a1 '
	(cd "$M/tx" && seq -f "$q.%g" 1000 | xargs mkdir)
	for i in $(seq 1000); do echo "m$i" >>"$M/tx/$q.$i/topics/$t/in"; done
	is "$(cat "$T/0/log" | wc -l)" 3
	for i in 1 500 1000; do echo commit >"$M/tx/$q.$i/state"; done
	is "$(tail -n 3 "$T/0/log" | tr '\n' ' ')" 'm1 m500 m1000 '
	(cd "$M/tx" && seq -f "$q.%g" 1000 | xargs rmdir)
	rmdir "$X.a" "$X.b"
}

memory_check() {
	mkdir "$mem/tx/$SHELL_NAME" "$mem/queues/$SHELL_NAME" "$mem/topics/$SHELL_NAME"
	cd "$mem"
	in_shell 'q=queues/$0 t=topics/$0 x=tx/$0
		echo a >> $q/in; cat $q/next
		echo b >> $x/$q/in; echo c >> $x/$t/in; ls $q/unacked | sed "s/^0*//" > $x/$q/ack
		ls $q/ready; cat $t/0/log; echo commit > $x/state; cat $x/state
		cat $q/next $t/0/log; ls $q/unacked | wc -l' "$SHELL_NAME" >"$BATS_TEST_TMPDIR/said"
	is "$(tr '\n' ' ' <"$BATS_TEST_TMPDIR/said")" 'a committed b c 1 '
	cd /
}

@test "a store in memory has transactions as well (bash, dash)" {
	mem=$BATS_FILE_TMPDIR/memory
	mkdir "$mem"
	t "$MQFS_PROGRAM" memory: "$mem" </dev/null >/dev/null 2>&1 4>&-
	for SHELL_NAME in $SHELLS; do
		memory_check
	done
	umount "$mem"
}
