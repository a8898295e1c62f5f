#!/usr/bin/env bats
# What mqfs-format(5) says, by use: format_reader.py, which was written from that page and shares no code with the engine, reads a store that
# was unmounted and one whose daemon was killed, verifies every checksum, and finds what format_seen.py was given by the mount:
# messages with all that is known of them, stored offsets, what is leased by whom, totals, bindings, transactions, settings, owners.

load helpers

HERE=$(dirname "$BATS_TEST_FILENAME")

# see NAME [TOPIC...] - what the mount gives, but of these topics
see() {
	local name=$1
	shift
	t python3 "$HERE/format_seen.py" "$M" "$BATS_FILE_TMPDIR/$name.seen" "$@"
}

# read_store NAME [STORE] - what the reader finds; what it says is in $output
read_store() {
	run t python3 "$HERE/format_reader.py" "${2:-$S}" "$BATS_FILE_TMPDIR/$1.read"
	[ "$status" = 0 ] || { echo "$output"; return 1; }
}

compare() {
	local name=$1
	shift
	python3 "$HERE/format_seen.py" compare "$BATS_FILE_TMPDIR/$name.seen" "$BATS_FILE_TMPDIR/$name.read" "$@"
}

# nth N DIRECTORY - the name of the N-th message, in order of delivery
nth() {
	ls -U "$2" | sed -n "$1p"
}

# count FIELD - of what the reader said of a store
count() {
	python3 -c 'import json, sys; at = json.loads(sys.argv[2])
for name in sys.argv[1].split("/"): at = at.get(name, 0)
print(json.dumps(at))' "$1" "$output"
}

topics_and_groups() {
	mkdir topics/orders
	echo 3 >topics/orders/config/partitions
	mkdir topics/orders/groups/g topics/orders/groups/unused topics/orders/groups/g/members/m topics/orders/groups/unused/members/w
	chown 1000:1001 topics/orders/groups/g
	chmod 2751 topics/orders
	chmod 640 topics/orders/in
	printf '%s\n' '{"payload":"one","key":"k","headers":{"a":"b","c":""},"ts":1732300000000,"id":"x1"}' \
		'{"payload":"two\nlines","partition":1}' \
		'{"payload":"","partition":1,"routing_key":"r.k","priority":3,"ttl_ms":100000,"delay_ms":5}' >>topics/orders/in.json
	seq 200 >>topics/orders/0/in
	printf 'a\nb\nc\n' >>topics/orders/keys/key
	printf 'x\ny\0z\0' >>topics/orders/in.nul
	rmdir topics/orders/groups/g/members/m
	cat topics/orders/groups/g/out >"$BATS_FILE_TMPDIR/out"
	echo 0:50 >topics/orders/groups/g/ack
	cat topics/orders/groups/g/0/next >"$BATS_FILE_TMPDIR/out"
	echo 0:51 >topics/orders/groups/g/reject
	echo '1 1' >topics/orders/groups/unused/offset
}

queues() {
	mkdir queues/jobs queues/jobs/consumers/me
	seq 8 >>queues/jobs/in
	echo front >>queues/jobs/head
	echo '{"payload":"later","delay_ms":600000,"headers":{"h":"v"},"id":"idem"}' >>queues/jobs/in.json
	echo urgent >>queues/jobs/priority/9/in
	is "$(cat queues/jobs/consumers/me/next)" urgent
}

# Trimmed, so that its ids are kept aside; compacted, so that there are gaps and keys.
trimmed_and_compacted() {
	local i k
	mkdir topics/ids topics/table
	echo 600000 >topics/ids/config/dedup.window.ms
	echo 4096 >topics/ids/config/segment.bytes
	for i in 1 2 3 4 5 6 7 8 9; do
		echo '{"payload":"'$i'","id":"id-'$i'"}'
	done >>topics/ids/in.json
	echo 'before 5' >topics/ids/0/purge
	for i in 1 2; do
		seq -f '{"payload":"a payload that fills segments, number %g"}' 200 >>topics/ids/in.json
	done
	echo compact >topics/table/config/cleanup.policy
	echo 4096 >topics/table/config/segment.bytes
	for ((i = 0; i < 30; i++)); do
		for ((k = 0; k < 50; k++)); do
			echo '{"key":"k'$k'","payload":"value '$i' of a key"}'
		done >>topics/table/in.json
	done
	rm topics/table/keys/k3
	ls topics/table/keys >"$BATS_FILE_TMPDIR/out"
	eventually eval 'ls "$S"/logs/*/clean'
}

# Every way in which a message of a queue becomes something else.
settle() {
	local me=queues/jobs/consumers/me id
	ls "$me/unacked" >"$me/ack"
	is "$(cat queues/jobs/next)" front
	is "$(cat queues/jobs/next)" 1
	id=$(Q=$M/queues/jobs id_of front)
	echo "$id" >queues/jobs/nack
	id=$(Q=$M/queues/jobs id_of 1)
	echo "$id" >queues/jobs/reject
	is "$(cat queues/jobs/take)" front
	is "$(cat "$me/next")" 2
	mv "queues/jobs/ready/$(nth 1 queues/jobs/ready)" queues/jobs/priority/7/ready/
	touch -d '+10 min' "queues/jobs/ready/$(nth 2 queues/jobs/ready)"
	mv "queues/jobs/ready/$(nth 2 queues/jobs/ready)" "$me/unacked/"
	rm "queues/jobs/ready/$(nth 2 queues/jobs/ready)"
	mkdir queues/other
	mv "queues/jobs/ready/$(nth 2 queues/jobs/ready)" queues/other/ready/
	echo none >queues/other/config/dead.letter.to
	printf 'first\nlast\n' >>queues/other/head
	cat topics/orders/groups/g/next >"$BATS_FILE_TMPDIR/out"
	echo all >topics/orders/groups/g/reject
	echo all >topics/orders/groups/g/dlq/redrive
}

publish() {
	mkdir exchanges/x exchanges/all
	echo direct >exchanges/x/type
	mkdir exchanges/x/bindings/a.b exchanges/x/bindings/unbound exchanges/all/bindings/'#'
	ln -s ../../../../queues/jobs exchanges/x/bindings/a.b/j
	ln -s ../../../../topics/orders exchanges/x/bindings/a.b/o
	ln -s ../../../../exchanges/x exchanges/all/bindings/'#'/x
	echo published >exchanges/x/keys/a.b
	echo '{"payload":"deep","routing_key":"a.b","priority":4,"headers":{"p":"q"},"key":"k2"}' >>exchanges/all/in.json
}

transactions() {
	mkdir tx/done tx/undone tx/open
	echo moved >>tx/done/topics/orders/in
	echo as-well >>tx/done/queues/other/in
	echo all >tx/done/queues/jobs/consumers/me/ack
	echo '0 77' >tx/done/topics/orders/groups/g/offset
	echo commit >tx/done/state
	echo never >>tx/undone/topics/orders/in
	echo rollback >tx/undone/state
	echo lost >>tx/open/topics/orders/in
	cat topics/orders/groups/g/next queues/jobs/consumers/me/next >"$BATS_FILE_TMPDIR/out"
}

@test "a store that was unmounted: every file is as the page says, and has what the mount gave" {
	cd "$M"
	echo 100 >config/queues/prefetch
	topics_and_groups
	queues
	see unmounted
	cd /
	unmount
	read_store unmounted
	compare unmounted
	is "$(count records/2)$(count records/1)" 00 # all of it is in the catalog
}

@test "a store whose daemon was killed: the journal on top of the catalog, and what was written to staging files" {
	local type staged=0
	mount_store
	cd "$M"
	settle
	publish
	transactions
	echo synced >>topics/orders/2/in
	sync topics/orders/2/in # into the journal
	mkdir topics/slow
	echo 60000 >topics/slow/config/linger.ms
	see killed slow
	if grep -q '^producing direct staged' status/version; then
		staged=1
		{ printf 'one\ntwo\nno end' && exec sleep "$LIMIT_S"; } >>topics/slow/in 3>&- &
		eventually eval 'grep -q "no end" "$S"/staging/*'
	fi
	cd /
	kill -KILL "$(daemon_pid)"
	wait_gone "$(daemon_pid)"
	umount -l "$M"
	read_store killed
	compare killed slow
	is "$(count ended)" '[[1, 0]]'
	for type in 1 2 3 5 9; do
		[ "$(count records/$type)" -gt 0 ] || { echo "no record of type $type: $output"; return 1; }
	done
	[ $staged = 0 ] || is "$(count staged/slow)" '[[null, "one"], [null, "two"]]'
	cp -a "$S" "$S.killed"
	mount_store
	[ $staged = 0 ] || is "$(cat "$M/topics/slow/0/log")" "$(printf 'one\ntwo')"
	[ $staged = 0 ] || kill %%
	see after
	unmount
	read_store after
	compare after
}

@test "logs whose front was trimmed, with the ids that count on, and that were compacted, with the keys" {
	mount_store
	cd "$M"
	trimmed_and_compacted
	see trimmed
	cd /
	unmount
	read_store trimmed
	compare trimmed
	is "$(count clean) $(count ids) $(count keys)" '1 5 50'
	cp -a "$S" "$S.trimmed"
}

@test "the reader finds each flipped bit, so it did look at the checksums" {
	run t python3 "$HERE/format_reader.py" --flips "$S.killed"
	[[ $status = 0 && $output =~ ^([0-9]+)' []'$ && ${BASH_REMATCH[1]} -gt 60 ]] || { echo "$output"; return 1; }
	run t python3 "$HERE/format_reader.py" --flips "$S.trimmed"
	[[ $status = 0 && $output =~ ' []'$ ]] || { echo "$output"; return 1; }
}
