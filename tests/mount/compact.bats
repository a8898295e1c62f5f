#!/usr/bin/env bats
# Compacted topics: keys/ as files, and the log without what is older.
load helpers

compacted() {
	echo "${1:-compact}" >config/cleanup.policy
}

# Waits until the log is smaller than so many bytes.
wait_small() {
	local i
	for ((i = 0; i < 2000; i++)); do
		[ "$(stat -c %s 0/log)" -ge "$1" ] || return 0
		sleep 0.01
	done
	echo "log has $(stat -c %s 0/log) bytes"
	return 1
}

values() {
	compacted
	in_shell '
		echo one > keys/a && echo two >> keys/b && echo three >> keys/a && printf last >> keys/c.json &&
		printf "%s\n" "{\"payload\":\"x\\ny\",\"key\":\"d\"}" >> in.json'
	[ "$(in_shell 'ls keys')" = "$(printf 'a\nb\nc.json\nd')" ]
	[ "$(in_shell 'cat keys/a')" = three ]
	[ "$(in_shell 'cat keys/c.json')" = last ]
	[ "$(cat keys/d)" = "$(printf 'x\ny')" ]
	[ "$(stat -c %s keys/a)" = 5 ]
	[ "$(stat -c %s keys/d)" = 3 ]
	[ "$(stat -c %Y keys/a)" -le "$(date +%s)" ] && [ "$(stat -c %Y keys/a)" -gt "$(($(date +%s) - 60))" ]
	[ "$(t grep -r t keys | sort)" = "$(printf 'keys/a:three\nkeys/b:two\nkeys/c.json:last')" ]
	in_shell 'test -e keys/a && ! test -e keys/z'
	in_shell 'rm keys/a && ! test -e keys/a && ! rm keys/a 2>/dev/null'
	[ "$(ls keys)" = "$(printf 'b\nc.json\nd')" ]
	[ "$(tail -n 1 0/log.json | grep -c '"key":"a".*"payload":null')" = 1 ]
	in_shell 'echo again > keys/a && cat keys/a'
	tail -n 2 0/log.json | head -n 1 | in_shell 'cat >> in.json' # the tombstone, as a reader got it
	in_shell '! test -e keys/a'
	in_shell '! mv keys/b keys/e 2>/dev/null && ! ln keys/b keys/e 2>/dev/null'
	[ "$(cat keys/b)" = two ]
	t sync keys/b
}
@test 'a key is a file: read, listed, measured, removed' {
	each_shell values
}

refused() {
	compacted
	in_shell '! echo nokey >> in 2>/dev/null && ! echo nokey >> 0/in 2>/dev/null && ! printf nokey >> in 2>/dev/null'
	in_shell '! echo "{\"payload\":\"x\"}" >> in.json 2>/dev/null && ! echo "{\"payload\":null}" >> in.json 2>/dev/null'
	in_shell '! echo x > put/file 2>/dev/null'
	tail -n 1 "$M/status/errors" | grep -q EINVAL
	[ "$(stat -c %s 0/log)" = 0 ]
	in_shell '! echo tidy > config/cleanup.policy 2>/dev/null'
	in_shell 'echo x >> keys/a && echo delete > config/cleanup.policy && ! test -e keys/a && [ -z "$(ls keys)" ] &&
		echo nokey >> in && ! rm keys/a 2>/dev/null'
	[ "$(cat 0/log)" = "$(printf 'x\nnokey')" ]
	compacted compact,delete
	[ "$(cat keys/a)" = x ]
}
@test 'what has no key is refused, and the setting holds at once' {
	each_shell refused
}

over_restarts() {
	compacted
	in_shell 'for i in 1 2 3 4 5; do echo "v$i" >> "keys/k$i"; done; rm keys/k2'
	crash
	[ "$(in_shell 'ls keys')" = "$(printf 'k1\nk3\nk4\nk5')" ]
	in_shell 'echo new >> keys/k3; rm keys/k4'
	remount
	[ "$(in_shell 'ls keys; cat keys/k3')" = "$(printf 'k1\nk3\nk5\nnew')" ]
	[ "$(wc -l <0/log)" = 8 ]
}
@test 'keys are known after a kill -9 and a remount' {
	each_shell over_restarts
}

updates() {
	local i
	compacted
	echo 20000 >config/segment.bytes
	group
	echo first >>keys/k0
	exec 7<0/log
	for i in 1 2 3 4 5 6; do
		in_shell 'i=0; while [ $i -lt 2000 ]; do echo "{\"key\":\"k$((i % 20))\",\"payload\":\"value '"$i"' $i\"}"; i=$((i + 1)); done >> in.json'
	done
	wait_small 60000
	# What was open before tells that the rest has moved; who opens it anew reads what there is.
	! cat <&7 >/dev/null 2>&1
	exec 7<&-
	for ((i = 0; i < 100; i++)); do # unless it is compacted between the two
		[ "$(wc -c < <(cat 0/log))" != "$(stat -c %s 0/log)" ] || break
	done
	[ "$i" -lt 100 ]
	eventually eval '[ "$(wc -l <0/log)" -lt 3000 ]' # the last of it may be compacted later
	for i in 0 7 19; do
		[ "$(cat keys/k$i)" = "value 6 $((1980 + i))" ]
		[ "$(grep "\"key\":\"k$i\"" 0/log.json | tail -n 1 | sed 's/.*"payload":"//; s/".*//')" = "value 6 $((1980 + i))" ]
	done
	[ "$(in_shell 'cat "$1"/out | tail -n 1' - "$G")" = 'value 6 1999' ]
	! cat 0/at/3 2>/dev/null
	! test -e 0/at/3
	[ "$(cat 0/at/12000)" = 'value 6 1999' ]
	[ "$(ls 0/at | sort -n | tail -n 1)" = 12000 ]
	in_shell 'cat "$1"/next' - "$G" | grep -qx 'value [1-6] [0-9]*'
	crash
	[ "$(cat keys/k19)" = 'value 6 1999' ]
	[ "$(ls keys | wc -l)" = 20 ]
	[ "$(tail -n 1 0/log)" = 'value 6 1999' ]
}
@test 'compaction keeps the last of each key, and readers go over the gaps' {
	each_shell updates
}

permissions() {
	compacted
	echo secret >keys/a
	chmod 0622 in
	chmod 0440 0/log
	[ "$(stat -c %a keys/a)" = 662 ]
	! setpriv --reuid 12345 --regid 12345 --clear-groups cat keys/a 2>/dev/null
	setpriv --reuid 12345 --regid 12345 --clear-groups sh -c 'echo mine >> keys/a'
	[ "$(cat keys/a)" = mine ]
	! setpriv --reuid 12345 --regid 12345 --clear-groups ls keys 2>/dev/null
	# Who owns in, or is of its group, may read what they wrote only if the log is theirs as well.
	chown 12345:12345 in
	chmod 0660 in
	chmod 0400 0/log
	[ "$(stat -c %a keys/a)" = 220 ]
	! setpriv --reuid 12345 --regid 12345 --clear-groups cat keys/a 2>/dev/null
	chmod 0040 0/log
	[ "$(stat -c %a keys/a)" = 220 ]
	! setpriv --reuid 12346 --regid 12345 --clear-groups cat keys/a 2>/dev/null
	chown 12345:12345 0/log
	[ "$(setpriv --reuid 12346 --regid 12345 --clear-groups cat keys/a)" = mine ]
	chmod 0400 0/log
	[ "$(setpriv --reuid 12345 --regid 12345 --clear-groups cat keys/a)" = mine ]
}
@test 'who may read the log may read keys, and who may write to in may write them' {
	each_shell permissions
}

@test 'ls of a hundred thousand keys' {
	topic
	compacted
	python3 - >>in.json <<-'END'
		for i in range(100000):
		    print('{"key":"key-%06d","payload":"%d"}' % (i, i))
	END
	[ "$(t ls keys | wc -l)" = 100000 ]
	[ "$(t ls -U keys | sort -u | wc -l)" = 100000 ]
	[ "$(cat keys/key-077777)" = 77777 ]
	remount
	[ "$(t ls keys | tail -n 1)" = key-099999 ]
}
