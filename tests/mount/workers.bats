#!/usr/bin/env bats
# Two hundred workers that are killed while they work, and the daemon with them: nothing is lost, nothing is acknowledged twice.
load helpers

MESSAGES=2000
WORKERS=200

# A worker: takes a message, works, acknowledges it, and notes in a file outside of the mount what was acknowledged. The note
# comes after the ack has returned; a worker killed in between has acknowledged without a note.
worker() {
	cat <<-'END'
		cd "$1" || exit
		exec 9>session || exit
		while :; do
			job=$(cat next) || continue
			[ -n "$job" ] || { sleep 0.02; continue; }
			printf "%s\n" "$job" >> "$2.try"
			echo all 2>/dev/null > ack && printf "%s\n" "$job" >> "$2.done"
		done
	END
}

# start_worker SLOT - each has a name of its own: the cat of one that was killed may still come to a message.
start_worker() {
	local name=w$((STARTED++)) shell=bash
	[ $((STARTED % 2)) = 0 ] || shell=dash
	mkdir "$Q/consumers/$name"
	"$shell" -c "$(worker)" worker "$Q/consumers/$name" "$BATS_TEST_TMPDIR/$name" 2>/dev/null 3>&- &
	PIDS[$1]=$!
}

@test "workers killed at random, cats too, and the daemon twice: each message acknowledged once, or still there" {
	local i n STARTED=0 seed=${SEED:-$RANDOM}
	echo "SEED=$seed"
	RANDOM=$seed
	Q=$M/queues/work
	mkdir "$Q"
	echo -1 >"$Q/config/delivery.limit"
	echo 500 >"$Q/config/ack.timeout.ms" # for a cat whose shell was killed: it has no session
	seq "$MESSAGES" >>"$Q/in"
	declare -A PIDS
	for ((i = 0; i < 8; i++)); do start_worker $i; done
	# Each round kills a worker, or just the cat it is in, and starts another: at most eight at a time.
	for ((n = 8; n < WORKERS; n++)); do
		i=$((RANDOM % 8))
		if [ $((RANDOM % 4)) = 0 ]; then
			pkill -9 -P "${PIDS[$i]}" 2>/dev/null || true
		fi
		kill -9 "${PIDS[$i]}" 2>/dev/null || true
		wait "${PIDS[$i]}" 2>/dev/null || true
		if [ "$n" = 70 ] || [ "$n" = 140 ]; then
			for i in "${!PIDS[@]}"; do kill -9 "${PIDS[$i]}" 2>/dev/null || true; done
			crash
			for ((i = 0; i < 8; i++)); do start_worker $i; done
		else
			start_worker $i
		fi
		sleep 0.02
	done
	for i in "${!PIDS[@]}"; do kill -9 "${PIDS[$i]}" 2>/dev/null || true; done
	wait 2>/dev/null || true
	cat "$BATS_TEST_TMPDIR"/w*.done 2>/dev/null | sort >"$BATS_TEST_TMPDIR/done"
	# No message was acknowledged twice: one that was is not delivered again.
	is "$(uniq -d "$BATS_TEST_TMPDIR/done")" ''
	[ "$(wc -l <"$BATS_TEST_TMPDIR/done")" -gt 100 ]
	# What is left in the queue, with what was acknowledged, is all there was.
	echo 0 >"$Q/config/prefetch"
	eventually eval '[ "$(awk "\$1 == \"unacked\" { print \$2 }" "$Q/info")" = 0 ]'
	timeout 20 cat "$Q/out" | sort >"$BATS_TEST_TMPDIR/left"
	is "$(uniq -d "$BATS_TEST_TMPDIR/left")" ''
	is "$(comm -12 "$BATS_TEST_TMPDIR/done" "$BATS_TEST_TMPDIR/left")" ''
	# What is in neither was acknowledged by a worker that died before it could say so: it had tried.
	sort -m "$BATS_TEST_TMPDIR/done" "$BATS_TEST_TMPDIR/left" >"$BATS_TEST_TMPDIR/known"
	cat "$BATS_TEST_TMPDIR"/w*.try | sort -u >"$BATS_TEST_TMPDIR/tried"
	comm -23 <(seq "$MESSAGES" | sort) "$BATS_TEST_TMPDIR/known" >"$BATS_TEST_TMPDIR/unknown"
	is "$(comm -23 "$BATS_TEST_TMPDIR/unknown" "$BATS_TEST_TMPDIR/tried")" ''
	[ "$(wc -l <"$BATS_TEST_TMPDIR/unknown")" -le "$STARTED" ]
	is "$(awk '$1 == "acked" { print $2 }' "$Q/info")" \
		$((MESSAGES - $(wc -l <"$BATS_TEST_TMPDIR/left")))
}
