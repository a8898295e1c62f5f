# The main job on real input: 200 MB of log lines in by cat, out through two groups, byte for byte the same.
load helpers

# Lines like those of a log, made of the text files this machine has, numbered over and over until there is enough.
make_lines() {
	local wanted=$1
	find /usr/include /usr/share /usr/lib/python3* /var/log -xdev -type f -size +0 -size -512k -print0 2>/dev/null | sort -z |
		head -z -n 20000 | xargs -0 grep -a -I -H -n '' 2>/dev/null | head -c "$((wanted / 4))" | sed '$d' >"$BATS_TEST_TMPDIR/part"
	local round=0
	while [ "$(stat -c %s "$BATS_TEST_TMPDIR/lines" 2>/dev/null || echo 0)" -lt "$wanted" ]; do
		round=$((round + 1))
		sed "s/^/2026-11-22T00:00:0$((round % 10))Z host$round app[$round]: /" "$BATS_TEST_TMPDIR/part" >>"$BATS_TEST_TMPDIR/lines"
	done
	rm "$BATS_TEST_TMPDIR/part"
}

@test "200 MB of log lines: cat >> in, cat out of two groups, tail, count, replay: byte for byte the same" {
	make_lines 200000000
	local text=$BATS_TEST_TMPDIR/lines count
	[ "$(stat -c %s "$text")" -ge 200000000 ]
	topic
	mkdir groups/a groups/b
	timeout 120 cat "$text" >>in
	cmp "$text" 0/log
	timeout 120 cat groups/a/out 3>&- | cmp - "$text"
	timeout 120 dd if=groups/b/out bs=1M status=none 3>&- | cmp - "$text"
	count=$(grep -c '' "$text")
	is "$(stat -c %s .)" "$count"
	is "$(cat groups/a/offset)" '0 0'
	echo all >groups/a/ack
	is "$(cat groups/a/offset)" "0 $count"
	is "$(cat 0/at/$((count / 2)))" "$(sed -n "$((count / 2 + 1)){p;q}" "$text")"
	echo "0 $((count - 10))" >groups/b/offset
	t cat groups/b/out | cmp - <(tail -n 10 "$text")
	is "$(tail -n 3 0/log)" "$(tail -n 3 "$text")"
	remount
	cmp "$text" 0/log
	echo all >purge
	is "$(messages) $(stat -c %s 0/log)" '0 0'
}
