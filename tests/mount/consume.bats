# What shells and tools read from next, wait, out and stream: nothing is lost, split or seen twice.
load helpers

# Five messages, one of them empty, and a group.
some() {
	group
	printf '%s\n' one 'two  with  blanks ' '' 'four\4' five >>in
}

# ------------------------------------------------------------------------- each file of the table

@test "next: one message, then EOF; the same again until it is acknowledged; EOF at once when there is none" {
	topic
	group
	is "$(t cat groups/g/next | od -c)" "$(od -c </dev/null)"
	printf 'one\ntwo\n' >>in
	is "$(t cat groups/g/next)" one
	is "$(t cat groups/g/next)" one
	echo all >groups/g/ack
	is "$(t cat groups/g/next)" two
	echo all >groups/g/ack
	t cat groups/g/next
	is "$(t cat groups/g/next)" ''
}

@test "wait: one message, then EOF; waits when there is none, and timeout ends it at once" {
	topic
	group
	run timeout 0.3 cat groups/g/wait
	is "$status/$output" 124/
	echo one >>in
	is "$(t cat groups/g/wait)" one
	echo all >groups/g/ack
	cat groups/g/wait >"$BATS_TEST_TMPDIR/got" 3>&- &
	blocked $!
	echo two >>in
	wait $!
	is "$(cat "$BATS_TEST_TMPDIR/got")" two
}

@test "out: all that is there at open, then EOF; again the same without ack" {
	topic
	some
	t cat groups/g/out | cmp - 0/log
	t cat groups/g/out | cmp - 0/log
	echo all >groups/g/ack
	is "$(t cat groups/g/out)" ''
	echo six >>in
	is "$(t cat groups/g/out)" six
}

@test "stream: messages as they come, and it waits for more" {
	topic
	some
	cat groups/g/stream >"$BATS_TEST_TMPDIR/got" 3>&- &
	blocked $!
	cmp "$BATS_TEST_TMPDIR/got" 0/log
	echo six >>in
	eventually cmp "$BATS_TEST_TMPDIR/got" 0/log
	kill $!
	wait $! || true
	is "$(t cat groups/g/next)" one
}

@test "every framing of every file" {
	topic
	some
	local n
	for n in next wait; do
		is "$(t cat groups/g/$n | od -c)" "$(printf 'one\n' | od -c)"
		is "$(t cat groups/g/$n.nul | od -c)" "$(printf 'one\0' | od -c)"
		is "$(t cat groups/g/$n.raw | od -c)" "$(printf one | od -c)"
		is "$(t jq -c '[.topic,.partition,.offset,.payload]' groups/g/$n.json)" "[\"${T##*/}\",0,0,\"one\"]"
	done
	is "$(t cat groups/g/out.nul | od -c)" "$(tr '\n' '\0' <0/log | od -c)"
	is "$(t head -z -n 5 groups/g/stream.nul | od -c)" "$(tr '\n' '\0' <0/log | od -c)"
	is "$(t jq -r .payload groups/g/out.json)" "$(cat 0/log)"
	is "$(t head -n 5 groups/g/stream.json | jq -r .payload)" "$(cat 0/log)"
	is "$(t jq -c '[.partition,.offset,(.ts > 1600000000000),.uid]' groups/g/out.json | uniq -c | wc -l)" 5
	fails ENOENT cat groups/g/out.raw
	fails ENOENT cat groups/g/stream.raw
	fails ENOENT cat groups/g/next.xml
}

@test "the files of one partition: groups/GROUP/N" {
	topic 2
	group
	echo zero >>0/in
	echo one >>1/in
	is "$(t cat groups/g/1/next)" one
	is "$(t cat groups/g/0/out)" zero
	is "$(t jq -r .partition groups/g/1/wait.json)" 1
	is "$(t head -n 1 groups/g/1/stream)" one
	echo all >groups/g/1/ack
	is "$(cat groups/g/offset)" $'0 0\n1 1'
	is "$(cat groups/g/1/offset)" 1
	is "$(t cat groups/g/1/next)" ''
	is "$(t cat groups/g/next)" zero
}

@test "next takes partitions in turn, the turn advances with each ack; out goes partition by partition" {
	topic 3
	group
	local p
	for p in 0 1 2; do
		printf "$p.%s\n" a b >>$p/in
	done
	is "$(t cat groups/g/out)" $'0.a\n0.b\n1.a\n1.b\n2.a\n2.b'
	local seen=
	for p in 1 2 3 4 5 6; do
		seen+=$(t cat groups/g/next)' '
		jq -r '"\(.partition):\(.offset)"' groups/g/next.json >groups/g/ack
	done
	is "$(tr ' ' '\n' <<<"$seen" | sort | tr -d '\n')" 0.a0.b1.a1.b2.a2.b
	is "$(cut -d ' ' -f 1-3 <<<"$seen" | tr ' ' '\n' | cut -c 1 | sort -u | wc -l)" 3
	is "$(t cat groups/g/next)" ''
}

# ------------------------------------------------------------------------- how shells and tools read

check_while_read() {
	some
	in_shell 'while IFS= read -r m; do printf "<%s>" "$m"; done <groups/g/out' >"$BATS_TEST_TMPDIR/got"
	is "$(cat "$BATS_TEST_TMPDIR/got")" '<one><two  with  blanks ><><four\4><five>'
	in_shell 'n=0; while IFS= read -r m; do printf "<%s>" "$m"; n=$((n+1)); [ $n = 5 ] && break; done <groups/g/stream' >"$BATS_TEST_TMPDIR/got"
	is "$(cat "$BATS_TEST_TMPDIR/got")" '<one><two  with  blanks ><><four\4><five>'
}
@test "while read over out and stream: each message once (bash, dash)" {
	each_shell check_while_read
}

check_read_then_others() {
	some
	in_shell '{ read -r a; IFS= read -r b; echo "[$a][$b]"; cat; } <groups/g/out' >"$BATS_TEST_TMPDIR/got"
	is "$(cat "$BATS_TEST_TMPDIR/got")" "$(printf '%s\n' '[one][two  with  blanks ]' '' 'four\4' five)"
	in_shell '{ read -r a; head -n 1 | tr a-z A-Z; read -r b; echo "$a $b"; } <groups/g/stream' >"$BATS_TEST_TMPDIR/got"
	is "$(sed -n 1p "$BATS_TEST_TMPDIR/got")" 'TWO  WITH  BLANKS '
	in_shell 'read -r m <groups/g/next; echo "$m"; m=$(cat groups/g/next); echo "$m"' >"$BATS_TEST_TMPDIR/got"
	is "$(cat "$BATS_TEST_TMPDIR/got")" $'one\none'
}
@test "a shell that reads too far and seeks back leaves the rest to the next command (bash, dash)" {
	each_shell check_read_then_others
}

check_worker() {
	some
	in_shell 'while m=$(cat groups/g/next.nul | tr "\0" "|"); [ -n "$m" ]; do printf "%s" "$m"; echo all >groups/g/ack; done' >"$BATS_TEST_TMPDIR/got"
	is "$(cat "$BATS_TEST_TMPDIR/got")" 'one|two  with  blanks ||four\4|five|'
	is "$(cat groups/g/offset)" '0 5'
}
@test "the worker's loop: next, work, ack, until there is nothing (bash, dash)" {
	each_shell check_worker
}

@test "mapfile, \$(<next), read -d '' and read -N" {
	topic
	some
	mapfile -t lines <groups/g/out
	is "${#lines[@]} ${lines[1]}" '5 two  with  blanks '
	is "$(<groups/g/next)" one
	IFS= read -r -d '' first <groups/g/out.nul
	is "$first" one
	{ read -r -N 2 a; read -r -N 5 b; } <groups/g/out
	is "$a|$b" $'on|e\ntwo'
}

@test "head -c 3, head -n 1, dd bs=4, tail -n 1, grep, wc, sed 2q, cut, sort, tac, awk, python: all see all of it" {
	topic
	some
	cd groups/g
	is "$(t head -c 3 next)" one
	is "$(t head -n 1 next 2>&1)" one
	is "$(t head -n 1 out 2>&1)" one
	t dd if=out bs=4 status=none | cmp - ../../0/log
	t dd if=out bs=1 status=none | cmp - ../../0/log
	t dd if=out bs=1M status=none | cmp - ../../0/log
	is "$(t tail -n 1 out)" five
	is "$(t tail -n +4 out)" $'four\\4\nfive'
	is "$(t tail -c 5 out)" five
	is "$(t grep -c . out)" 4
	is "$(t grep -n four out)" '4:four\4'
	is "$(t wc -l <out)" 5
	is "$(t wc -c out)" "$(wc -c <../../0/log) out"
	is "$(t sed 2q out)" "$(sed 2q ../../0/log)"
	is "$(t sort out)" "$(sort ../../0/log)"
	is "$(t cat out | tac)" "$(tac ../../0/log)"
	is "$(t awk 'END { print NR }' out)" 5
	is "$(t cut -c 1 out)" "$(cut -c 1 ../../0/log)"
	is "$(t python3 -c 'print([line for line in open("out")])')" "['one\\n', 'two  with  blanks \\n', '\\n', 'four\\\\4\\n', 'five\\n']"
	is "$(t python3 -c '
import sys
for i, line in enumerate(open("stream", buffering=1)):
    print(line, end="", flush=True)
    if i == 4: break')" "$(cat ../../0/log)"
	is "$(t xargs -0 -n 1 <out.nul | wc -l)" 5
	t diff out ../../0/log
	t cp out "$BATS_TEST_TMPDIR/copy"
	cmp "$BATS_TEST_TMPDIR/copy" ../../0/log
	is "$(cat offset)" '0 0'
}

@test "cat of several openings at once: out and next of one group, and of two, each have all" {
	topic
	some
	group h
	t cat groups/g/out groups/h/out groups/g/out >"$BATS_TEST_TMPDIR/got"
	cmp "$BATS_TEST_TMPDIR/got" <(cat 0/log 0/log 0/log)
}

# ------------------------------------------------------------------------- settings of a group

@test "max.poll.records limits what one opening of out gives; 0 is no limit" {
	topic
	some
	echo 2 >groups/g/config/max.poll.records
	is "$(t cat groups/g/out)" $'one\ntwo  with  blanks '
	echo all >groups/g/ack
	is "$(t cat groups/g/out | wc -l)" 2
	echo 0 >groups/g/config/max.poll.records
	is "$(t cat groups/g/out | wc -l)" 3
}

@test "auto.commit: what was read is acknowledged by it" {
	topic
	some
	echo true >groups/g/config/auto.commit
	is "$(t cat groups/g/next)" one
	is "$(cat groups/g/offset)" '0 1'
	is "$(t cat groups/g/next)" 'two  with  blanks '
	is "$(t head -c 1 groups/g/out | wc -c)" 1
	is "$(t cat groups/g/out | wc -l)" 2
	is "$(t cat groups/g/out)" ''
	echo false >groups/g/config/auto.commit
	echo six >>in
	is "$(t cat groups/g/next)" six
	is "$(t cat groups/g/next)" six
}

@test "auto.offset.reset: latest makes new groups begin behind what is there" {
	topic
	echo old >>in
	echo latest >"$M/config/groups/auto.offset.reset"
	group late
	echo earliest >"$M/config/groups/auto.offset.reset"
	group early
	echo new >>in
	is "$(t cat groups/late/out)" new
	is "$(t cat groups/early/out)" $'old\nnew'
}

# ------------------------------------------------------------------------- log and at/

@test "log: every retained message, seekable, grows under tail -f; tail -F as well" {
	topic
	seq 1 1000 >>in
	is "$(t tail -n 3 0/log)" $'998\n999\n1000'
	is "$(t tail -c 5 0/log)" 1000
	is "$(t grep -c 5 0/log)" "$(seq 1 1000 | grep -c 5)"
	is "$(stat -c %s 0/log)" "$(seq 1 1000 | wc -c)"
	is "$(wc -c <0/log.nul)" "$(seq 1 1000 | wc -c)"
	is "$(jq -r .payload 0/log.json)" "$(seq 1 1000)"
	is "$(jq -r .offset 0/log.json | tail -n 1)" 999
	local option
	for option in -f -F; do
		tail -s 0.05 $option -n 1 0/log >"$BATS_TEST_TMPDIR/tail" 2>&1 3>&- &
		eventually grep -q 1000 "$BATS_TEST_TMPDIR/tail"
		echo "followed by $option" >>in
		eventually grep -q -e "followed by $option" "$BATS_TEST_TMPDIR/tail"
		kill $!
		wait $! || true
		echo 1000 >>in
	done
}

@test "log, open while messages are purged: what is gone is ESTALE, what is there is read, and tail -f and -F go on" {
	topic
	seq 1 1000 >>in
	local option pids=()
	for option in -f -F; do
		tail -s 0.05 $option -n 1 0/log >"$BATS_TEST_TMPDIR/tail$option" 2>"$BATS_TEST_TMPDIR/err$option" 3>&- &
		pids+=($!)
		eventually grep -q 1000 "$BATS_TEST_TMPDIR/tail$option"
	done
	exec 5<0/log 6<0/log
	is "$(head -c 2 <&5)" 1
	t tail -c 5 <&6
	echo 'before 500' >0/purge
	echo after >>in
	run t cat <&5
	[[ $status != 0 && $output == *"Stale file handle"* ]] || { echo "$status: $output"; return 1; }
	is "$(t cat <&6)" after
	exec 5<&- 6<&-
	is "$(head -n 1 0/log) $(stat -c %s 0/log)" "501 $({ seq 501 1000; echo after; } | wc -c)"
	eventually grep -q after "$BATS_TEST_TMPDIR/tail-F"
	eventually grep -q after "$BATS_TEST_TMPDIR/tail-f"
	is "$(tail -n 2 "$BATS_TEST_TMPDIR/tail-f" | tr '\n' ' ')" '1000 after '
	kill "${pids[@]}"
	wait || true
}

@test "at/: by offset, padded or not, with size and time; listed are the first and the last" {
	topic
	printf 'zero\n\ntwo\n' >>in
	is "$(ls 0/at | sed 's/^0*\(.\)/\1/')" $'0\n2'
	is "$(cat 0/at/2)" two
	is "$(cat 0/at/00000000000000000002)" two
	is "$(cat 0/at/2.raw)" two
	is "$(jq -c '[.offset,.payload]' 0/at/2.json)" '[2,"two"]'
	is "$(stat -c %s 0/at/0)" 4
	is "$(stat -c %s 0/at/1)" 0
	is "$(($(stat -c %Y 0/at/0) - $(jq .ts 0/at/0.json) / 1000))" 0
	fails ENOENT cat 0/at/3
	fails ENOENT cat 0/at/x
	fails EPERM rm -f 0/at/0
	echo 'before 2' >0/purge
	fails ENOENT cat 0/at/1
	is "$(ls 0/at | sed 's/^0*\(.\)/\1/')" 2
	is "$(cat 0/log)" two
}

@test "ls -l: sizes are counts of messages, lag and bytes; times are those of the last message" {
	topic 2
	group
	printf 'a\nb\nc\n' >>0/in
	echo d >>1/in
	is "$(stat -c %s .)" 4
	is "$(stat -c %s 0)" 3
	is "$(stat -c %s 1)" 1
	is "$(stat -c %s groups/g)" 4
	t cat groups/g/0/next >/dev/null
	echo all >groups/g/0/ack
	is "$(stat -c %s groups/g)" 3
	is "$(stat -c %s 0/log 1/log)" $'6\n2'
	is "$(stat -c %h . 0 groups groups/g | sort -u)" 1
	[ $(($(date +%s) - $(stat -c %Y 1/log))) -le 5 ]
	is "$(stat -L -c %s groups/g/next)" 0
}
