#!/usr/bin/env bats
# A bank: ten accounts, five of them queues and five topics; a hundred coins, each a message. Shells move them by transactions, each of
# which takes a coin from one account, puts it into another, and notes that in a ledger, while the daemon is killed again and again.
# Afterwards each coin is there once, and where the ledger says.
load helpers

# clerk NUMBER - moves coins until $STOP is there. What fails is undone, or was done: the transaction's state says which.
clerk() {
	local n=0 from to record id coin ack account x
	set +eET # the errors of commands are what it is about
	trap - ERR DEBUG EXIT
	RANDOM=$((SEED + $1))
	while ! [ -e "$STOP" ]; do
		n=$((n + 1)) from=$((RANDOM % 10)) to=$((RANDOM % 10)) x=$M/tx/clerk$1.$n
		if [ $from -lt 5 ]; then
			account=queues/a$from/consumers/clerk$1
			record=$(timeout 5 cat "$M/$account/next.json" 2>/dev/null)
			[[ $record =~ \"id\":([0-9]+) ]] || continue
			id=${BASH_REMATCH[1]} ack=$id
		else
			account=topics/a$from/groups/g
			record=$(timeout 5 cat "$M/$account/next.json" 2>/dev/null)
			[[ $record =~ \"offset\":([0-9]+) ]] || continue
			id=${BASH_REMATCH[1]} ack=0:$id
		fi
		[[ $record =~ \"payload\":\"(coin-[0-9]+)\" ]] || continue
		coin=${BASH_REMATCH[1]}
		transfer 2>/dev/null && continue
		if [ $from -lt 5 ] && ! ended_well; then
			echo "$id" 2>/dev/null >"$M/$account/nack" || true
		fi
	done
	return 0
}

# The subshells stand for how shells end a command whose redirection fails.
transfer() {
	local target
	[ $to -lt 5 ] && target=queues/a$to/in || target=topics/a$to/in
	mkdir "$x" &&
		(echo "$ack" >"$x/$account/ack") &&
		(echo "$coin" >>"$x/$target") &&
		(echo "$coin $from $to" >>"$x/topics/ledger/in") &&
		(echo commit >"$x/state")
}

# Whether the transaction was committed, although its client did not hear of it.
ended_well() {
	local state=
	while ! [ -e "$STOP" ]; do
		state=$(cat "$x/state" 2>/dev/null) && break
		[ -e "$M/README" ] && ! [ -e "$x" ] && return 1
		sleep 0.02
	done
	[ "$state" = committed ] && return
	rmdir "$x" 2>/dev/null
	return 1
}

# Where each coin is: "coin-1 4", sorted
places() {
	local i file offset
	for i in 0 1 2 3 4; do
		for file in "$M/queues/a$i"/{ready,unacked,delayed}/*; do
			[ -e "$file" ] && echo "$(cat "$file") $i"
		done
	done
	for i in 5 6 7 8 9; do
		offset=$(cat "$M/topics/a$i/groups/g/0/offset")
		tail -n +$((offset + 1)) "$M/topics/a$i/0/log" | sed "s/$/ $i/"
	done
}

@test "ten accounts in queues and topics, three clerks, a daemon that is killed: no coin is lost or doubled, and the ledger is right" {
	local i pids=() kills=5
	export SEED=${MQFS_SEED:-$RANDOM} STOP=$BATS_TEST_TMPDIR/stop
	echo "MQFS_SEED=$SEED"
	cd /
	mkdir "$M/topics/ledger"
	for i in 0 1 2 3 4; do
		mkdir "$M/queues/a$i" "$M/queues/a$i/consumers/clerk"{1,2,3}
		echo -1 >"$M/queues/a$i/config/delivery.limit"
		echo 1000 >"$M/queues/a$i/config/ack.timeout.ms"
		seq -f "coin-%g" $((i * 10)) $((i * 10 + 9)) >>"$M/queues/a$i/in"
	done
	for i in 5 6 7 8 9; do
		mkdir "$M/topics/a$i" "$M/topics/a$i/groups/g"
		seq -f "coin-%g" $((i * 10)) $((i * 10 + 9)) >>"$M/topics/a$i/in"
	done
	places | sort >"$BATS_TEST_TMPDIR/begin"
	is "$(wc -l <"$BATS_TEST_TMPDIR/begin")" 100
	T=
	for i in 1 2 3; do
		clerk $i >/dev/null 3>&- 4>&- &
		pids+=($!)
	done
	RANDOM=$SEED
	for ((i = 0; i < kills; i++)); do
		sleep "1.$((RANDOM % 10))"
		crash
	done
	sleep 1
	touch "$STOP"
	wait "${pids[@]}"
	# From where they began each line of the ledger takes one coin from where it is to elsewhere.
	awk 'NR == FNR { at[$1] = $2; next }
		at[$1] != $2 { print "line " FNR ": " $1 " is not in " $2 " but in " at[$1]; bad = 1 }
		{ at[$1] = $3 }
		END { for (coin in at) print coin, at[coin]; exit bad }' "$BATS_TEST_TMPDIR/begin" "$M/topics/ledger/0/log" |
		sort >"$BATS_TEST_TMPDIR/ledger"
	places | sort >"$BATS_TEST_TMPDIR/end"
	diff "$BATS_TEST_TMPDIR/ledger" "$BATS_TEST_TMPDIR/end"
	is "$(cut -d ' ' -f 1 "$BATS_TEST_TMPDIR/end" | uniq | wc -l)" 100
	echo "$(wc -l <"$M/topics/ledger/0/log") transfers"
	[ "$(wc -l <"$M/topics/ledger/0/log")" -gt 30 ]
}
