#!/usr/bin/env bats
# Idempotent producing: an id that was seen within dedup.window.ms is accepted and dropped.
load helpers

queue() {
	Q=$M/queues/${1:-q}-$BATS_TEST_NUMBER-$SHELL_NAME
	mkdir "$Q"
	echo 600000 >"$Q/config/dedup.window.ms"
}

sent_again() {
	echo 600000 >config/dedup.window.ms
	in_shell '
		echo "{\"payload\":\"one\",\"id\":\"a\"}" >> in.json &&
		echo "{\"payload\":\"two\",\"id\":\"a\"}" >> in.json &&
		printf "%s\n" "{\"payload\":\"three\",\"id\":\"b\"}" "{\"payload\":\"four\",\"id\":\"b\"}" "{\"payload\":\"five\"}" >> 0/in.json &&
		echo plain >> in && echo plain >> in'
	[ "$(in_shell 'cat 0/log')" = "$(printf 'one\nthree\nfive\nplain\nplain')" ]
	grep -qx 'deduplicated 2' info
	grep -q "^mqfs_topic_deduplicated_total{topic=\"${T##*/}\"} 2" "$M/status/metrics"
	in_shell 'echo 0 > config/dedup.window.ms && echo "{\"payload\":\"six\",\"id\":\"a\"}" >> in.json'
	[ "$(tail -n 1 0/log)" = six ]
}
@test 'an id is taken once, and what has none as often as it is sent' {
	each_shell sent_again
}

over_restarts() {
	queue
	echo 600000 >config/dedup.window.ms
	in_shell 'for i in 1 2 3; do echo "{\"payload\":\"$i\",\"id\":\"$i\"}" >> in.json; echo "{\"payload\":\"$i\",\"id\":\"$i\"}" >> "$1"/in.json; done' - "$Q"
	[ "$(in_shell 'cat "$1"/take' - "$Q")" = 1 ]
	echo all >purge
	remount
	in_shell 'for i in 1 2 3 4; do echo "{\"payload\":\"$i\",\"id\":\"$i\"}" >> in.json; echo "{\"payload\":\"$i\",\"id\":\"$i\"}" >> "$1"/in.json; done' - "$Q"
	[ "$(cat 0/log)" = 4 ]
	[ "$(cat "$Q/out")" = "$(printf '2\n3\n4')" ]
	crash
	in_shell 'for i in 1 2 3 4 5; do echo "{\"payload\":\"$i\",\"id\":\"$i\"}" >> in.json; echo "{\"payload\":\"$i\",\"id\":\"$i\"}" >> "$1"/in.json; done' - "$Q"
	[ "$(cat 0/log)" = "$(printf '4\n5')" ]
	grep -qx 'deduplicated 4' "$Q/info"
	[ "$(grep -E '^(ready|unacked) ' "$Q/info" | awk '{ n += $2 } END { print n }')" = 4 ]
}
@test 'ids are known after a remount and a kill -9, of messages too that are gone' {
	each_shell over_restarts
}

# Whoever does not know whether a write arrived sends it again: nothing is lost, nothing is doubled.
retried() {
	local i
	echo 600000 >config/dedup.window.ms
	for i in 1 2 3 4 5; do
		in_shell 'for n in 1 2 3 4 5 6 7 8 9 10; do echo "{\"payload\":\"$1-$n\",\"id\":\"$1-$n\"}" >> in.json || exit 0; done' - "$i" 2>/dev/null &
		crash
		wait $! || true
		in_shell 'for n in 1 2 3 4 5 6 7 8 9 10; do echo "{\"payload\":\"$1-$n\",\"id\":\"$1-$n\"}" >> in.json || exit 1; done' - "$i"
	done
	[ "$(sort -V 0/log)" = "$(for i in 1 2 3 4 5; do for n in 1 2 3 4 5 6 7 8 9 10; do echo "$i-$n"; done; done)" ]
}
@test 'what is sent again after a kill -9 arrives once' {
	each_shell retried
}

# id is the number of a message there, as every reader of JSON finds it, and what in.json takes back has both.
both_ids() {
	queue
	in_shell 'cd "$1" && echo "{\"payload\":\"x\",\"id\":\"a\"}" >> in.json && cat out.json > "$2" && cat "$2" >> in.json' - "$Q" "$BATS_TEST_TMPDIR/record"
	python3 - "$BATS_TEST_TMPDIR/record" <<-'END'
		import json, sys
		record = json.loads(open(sys.argv[1]).read())
		assert type(record['id']) is int and record['dedup_id'] == 'a', record
	END
	grep -qx 'deduplicated 1' "$Q/info"
	grep -qx 'unacked 1' "$Q/info"
	grep -qx 'ready 0' "$Q/info"
}
@test 'a record of a queue has its number and the id it was sent with, and in.json takes it as it is (bash, dash)' {
	each_shell both_ids
}
