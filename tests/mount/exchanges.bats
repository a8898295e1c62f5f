# Exchanges: routing by patterns, bindings as links, all targets or none.
load helpers

# pub KEY WORD - publishes; prints nothing.
pub() {
	t sh -c '/bin/echo "$1" >>"keys/$2"' - "$2" "$1"
}

# routes KEY TARGET... - a message with this key comes to these targets and to no others of those that are bound.
routes() {
	local key=$1 word=w$RANDOM$RANDOM target
	shift
	if [ $# = 0 ]; then
		fails EHOSTUNREACH sh -c '/bin/echo x >>"keys/$1"' - "$key"
		return
	fi
	pub "$key" "$word" || return
	for target in $(find -L bindings -maxdepth 2 -mindepth 2 -printf '%f\n' | sort -u); do
		local times
		times=$(got "topics/$target" | tr ' ' '\n' | grep -c "^$word\$" || true)
		is "$key $target $times" "$key $target $(printf '%s\n' "$@" | grep -cx "$target")" || return
	done
}

# ------------------------------------------------------------------------------------- as the manual types it

typed() {
	mkdir -p "$M/queues/jobs$SHELL_NAME" "$M/exchanges/events$SHELL_NAME"
	cd "$M"
	in_shell "
		mkdir -p 'exchanges/events$SHELL_NAME/bindings/order.*'
		ln -s ../../../../queues/jobs$SHELL_NAME 'exchanges/events$SHELL_NAME/bindings/order.*/jobs'
		echo hi >> exchanges/events$SHELL_NAME/keys/order.created
	"
	is "$(t cat "queues/jobs$SHELL_NAME/take.json" | grep -o '"routing_key":"[^"]*"')" '"routing_key":"order.created"'
	is "$(readlink "exchanges/events$SHELL_NAME/bindings/order.*/jobs")" "../../../../queues/jobs$SHELL_NAME"
	[ -d "exchanges/events$SHELL_NAME/bindings/order.*/jobs/ready" ]
	fails EHOSTUNREACH "$SHELL_NAME" -c "/bin/echo hi >> exchanges/events$SHELL_NAME/keys/nobody"
	fails EHOSTUNREACH "$SHELL_NAME" -c "/bin/printf hi >> exchanges/events$SHELL_NAME/keys/nobody" # no newline, the write all the same
	told EHOSTUNREACH nobody
	! in_shell "echo hi >> exchanges/events$SHELL_NAME/keys/nobody" 2>/dev/null
}

@test "routing as the manual types it, in bash and dash" {
	for SHELL_NAME in $SHELLS; do typed; done
}

# ------------------------------------------------------------------------------- the examples of RabbitMQ's pages

@test "topic: the tutorial's *.orange.*, *.*.rabbit and lazy.#" {
	exchange
	bind '*.orange.*' topics/q1
	bind '*.*.rabbit' topics/q2
	bind 'lazy.#' topics/q2
	routes quick.orange.rabbit q1 q2
	routes lazy.orange.elephant q1 q2
	routes quick.orange.fox q1
	routes lazy.brown.fox q2
	routes lazy.pink.rabbit q2
	routes quick.brown.fox
	routes orange
	routes quick.orange.new.rabbit
	routes lazy.orange.new.rabbit q2
	routes lazy q2
}

@test "topic: # alone is fanout, no wildcard is direct, and the tutorial's logs: kern.*, *.critical" {
	exchange
	bind '#' topics/all
	bind 'kern.*' topics/kern
	bind '*.critical' topics/critical
	bind kern.critical topics/both
	routes kern.critical all kern critical both
	routes kern.info all kern
	routes cron.critical all critical
	routes cron.warning all
	routes kern.critical.x all
	routes kern all
	echo '{"payload":"nokey"}' >>in.json # the empty key: no file has that name
	[[ $(got topics/all) == *nokey* && $(got topics/kern) != *nokey* ]]
}

@test "topic: the AMQP specification's *.stock.# and the words between two #" {
	exchange
	bind '*.stock.#' topics/stock
	bind '#.a.#' topics/inner
	routes usd.stock stock
	routes eur.stock.db stock
	routes stock.nasdaq
	routes a inner
	routes a.b inner
	routes b.a inner
	routes x.stock.a stock inner
	routes b.aa.c
}

@test "direct: the tutorial's severities, several bindings to one queue, one to several" {
	exchange direct
	bind error topics/disk
	bind error topics/screen
	bind info topics/screen
	bind warning topics/screen
	bind 'a.*' topics/star
	routes error disk screen
	routes info screen
	routes warning screen
	routes debug
	routes a.b
	routes 'a.*' star
}

@test "fanout: every queue, whatever the key" {
	exchange fanout
	bind any topics/f1
	bind '' topics/f2 2>/dev/null || bind other topics/f2
	routes x f1 f2
	routes a.b.c f1 f2
	echo '{"payload":"no key"}' >>in.json
	[[ $(got topics/f1) == *'no key '* ]]
}

@test "headers: all, any, all-with-x, a header that is there, and none" {
	exchange headers
	bind 'format=pdf,type=report' topics/ha
	bind 'x-match=any,format=pdf,type=log' topics/hb
	bind 'x-match=all-with-x,x-of=1,format=zip' topics/hc
	bind 'color' topics/hd
	echo '{"payload":"1","headers":{"format":"pdf","type":"report"}}' >>in.json
	echo '{"payload":"2","headers":{"format":"pdf","type":"log"}}' >>in.json
	echo '{"payload":"3","headers":{"format":"zip","type":"log"}}' >>in.json
	fails EHOSTUNREACH sh -c "/bin/echo '{\"payload\":\"4\",\"headers\":{\"format\":\"zip\",\"type\":\"report\"}}' >>in.json"
	fails EHOSTUNREACH sh -c "/bin/echo -n '{\"payload\":\"4\",\"headers\":{\"format\":\"zip\",\"type\":\"report\"}}' >>in.json"
	echo '{"payload":"5","headers":{"format":"zip","x-of":"1"}}' >>in.json
	echo '{"payload":"6","headers":{"color":"red"}}' >>in.json
	fails EHOSTUNREACH sh -c '/bin/echo x >>keys/format'
	is "$(got topics/ha)|$(got topics/hb)|$(got topics/hc)|$(got topics/hd)" '1 |1 2 3 |5 |6 '
}

# ---------------------------------------------------------------------------------------------------- bindings

@test "one copy for each target, however many bindings lead there, through other exchanges too" {
	exchange
	bind '#' topics/once
	bind 'a.*' topics/once
	bind a.b topics/once
	bind a.b topics/once again
	bind '#' exchanges/once-inner
	mkdir -p "$M/exchanges/once-inner/bindings/#"
	ln -s "$M/topics/once" "$M/exchanges/once-inner/bindings/#/x"
	pub a.b one
	is "$(got topics/once)" 'one '
	is "$(awk '$1 == "routed" { print $2 }' info)" 1
}

@test "links: relative, absolute, by ln -sr; of what is there; readlink is relative and follows a rename" {
	exchange
	mkdir -p "$M/queues/ln1" "$M/topics/ln2" bindings/k
	ln -s "$M/queues/ln1" bindings/k/
	ln -sr "$M/topics/ln2" bindings/k/two
	ln -s .././../..//../topics/ln2/ bindings/k/three
	is "$(readlink bindings/k/ln1 bindings/k/two bindings/k/three | tr '\n' ' ')" \
		'../../../../queues/ln1 ../../../../topics/ln2 ../../../../topics/ln2 '
	mv "$M/queues/ln1" "$M/queues/ln9"
	is "$(readlink bindings/k/ln1)" ../../../../queues/ln9
	is "$(stat -c %s bindings/k/ln1)" 22
	mv "$X" "$X-new" && X=$X-new && cd "$X"
	pub k hello
	is "$(got queues/ln9)$(got topics/ln2)" 'hello hello '
	is "$(cd bindings/k/two && pwd -P)" "$M/topics/ln2"
}

rebound() {
	mkdir -p "$M/queues/new$SHELL_NAME"
	bind k queues/old$SHELL_NAME target
	in_shell "
		ln -sfn ../../../../queues/new$SHELL_NAME bindings/k/target &&
		ln -sfn ../../../../queues/new$SHELL_NAME bindings/k/target &&
		echo hello >>keys/k
	"
	is "$(ls bindings/k) $(readlink bindings/k/target)" "target ../../../../queues/new$SHELL_NAME"
	is "$(got queues/new$SHELL_NAME)|$(got queues/old$SHELL_NAME)" 'hello |'
	rmdir "$M/queues/old$SHELL_NAME"
	in_shell 'mv bindings/k/target "bindings/k/another name"'
	is "$(ls -l bindings/k | tail -n 1 | grep -o 'another.*')" "another name -> ../../../../queues/new$SHELL_NAME"
	remount
	is "$(ls bindings/k)" 'another name'
	not t mv bindings/k/another* bindings/k/.hidden
	told EINVAL 'not a name for a binding'
	mkdir bindings/l
	fails EPERM mv bindings/k/another* bindings/l/
	told EPERM 'under its pattern'
	fails EPERM mv -T bindings/l bindings/m
	told EPERM 'a pattern cannot be renamed'
	echo again >>keys/k
	is "$(got queues/new$SHELL_NAME)" 'hello again '
}

@test "ln -sf binds to another target in one step, mv renames a binding (bash, dash)" {
	for SHELL_NAME in $SHELLS; do
		exchange
		rebound
	done
}

refused_links() {
	local before
	mkdir -p "$M/queues/r1/consumers/c" bindings/k
	bind k queues/r1 there
	before=$(state)
	fails ENOENT ln -s ../../../../queues/none bindings/k/x
	told ENOENT 'as seen from the link'
	fails ENOENT ln -s queues/r1 bindings/k/x
	fails ENOENT ln -s nowhere bindings/k/x
	fails EINVAL ln -s /etc/passwd bindings/k/x
	told EINVAL 'not below this mount'
	fails EINVAL ln -s "$M" bindings/k/x
	fails EINVAL ln -s ../../../../status/health bindings/k/x
	fails EINVAL ln -s ../../../../queues bindings/k/x
	fails EINVAL ln -s ../../../../queues/r1/dlq bindings/k/x
	fails EINVAL ln -s ../../../../queues/r1/consumers/c bindings/k/x
	fails EINVAL ln -s "${M}x/queues/r1" bindings/k/x
	fails EEXIST ln -sT ../../../../queues/r1 bindings/k/there
	fails EINVAL ln -s ../../../../queues/r1 bindings/k/.hidden
	fails ENAMETOOLONG ln -s ../../../../queues/r1 "bindings/k/$(printf %0201d 0)"
	fails EPERM ln -s ../../../../queues/r1 bindings/x
	fails EPERM ln -s ../../../../queues/r1 x
	fails EPERM touch bindings/k/file
	fails EPERM mkdir bindings/k/dir
	is "$(state)" "$before"
}

@test "dangling and foreign links are refused, and nothing is there then" {
	for SHELL_NAME in $SHELLS; do
		exchange
		refused_links
	done
}

@test "circles are ELOOP: by bindings, by alternate.exchange, by both" {
	exchange
	bind k exchanges/c1
	bind k exchanges/c2
	cd "$M/exchanges/c1"
	mkdir -p bindings/k ../c2/bindings/k
	fails ELOOP ln -s ../../../../exchanges/c1 bindings/k/self
	ln -s ../../../../exchanges/c2 bindings/k/
	fails ELOOP ln -s ../../../../exchanges/c1 ../c2/bindings/k/
	fails ELOOP ln -s "$X" ../c2/bindings/k/
	fails ELOOP sh -c '/bin/echo exchanges/c1 >../c2/config/alternate.exchange'
	told ELOOP circle
	is "$(cat ../c2/config/alternate.exchange)" none
}

@test "patterns: empty words, too long, an unknown type, a type that has patterns" {
	exchange
	fails EINVAL mkdir bindings/a..b
	told EINVAL 'none of them is empty'
	fails EINVAL mkdir bindings/a.
	fails EINVAL mkdir bindings/.a
	fails ENAMETOOLONG mkdir "bindings/$(printf %0256d 0)"
	mkdir "bindings/$(printf %0255d 0)"
	fails EEXIST mkdir "bindings/$(printf %0255d 0)"
	fails EBUSY sh -c '/bin/echo fanout >type'
	told EBUSY bindings
	rmdir bindings/*
	fails EINVAL sh -c '/bin/echo x-delayed-message >type'
	told EINVAL 'topic, direct, fanout or headers'
	is "$(cat type)" topic
	echo headers >'type'
	is "$(cat type)$(stat -c %s type)" headers8
	fails EINVAL mkdir bindings/x-match=some,a=1
	fails EINVAL mkdir bindings/=1
	fails EPERM sh -c 'rm type'
	fails ENAMETOOLONG sh -c '/bin/echo x >>"keys/$(printf %0256d 0)"'
}

@test "what is bound is EBUSY, an exchange with patterns ENOTEMPTY; rm -r unbinds" {
	exchange
	bind 'a.*' topics/b1
	bind 'a.*' queues/b2
	bind 'b.*' exchanges/b3
	fails EBUSY rmdir "$M/topics/b1"
	fails EBUSY rmdir "$M/queues/b2"
	told EBUSY 'bound to it'
	fails EBUSY rmdir "$M/exchanges/b3"
	fails ENOTEMPTY rmdir "$X"
	fails ENOTEMPTY rmdir 'bindings/a.*'
	told ENOTEMPTY 'bindings under it'
	rm 'bindings/a.*/b1'
	rmdir "$M/topics/b1"
	fails ENOENT rm 'bindings/a.*/b1'
	rm -r bindings/*
	rmdir "$M/queues/b2" "$M/exchanges/b3"
	is "$(ls bindings)" ''
	cd "$M"
	rmdir "$X"
	fails ENOENT ls "$X"
}

@test "bindings, types and settings are there again after a remount" {
	exchange direct
	bind k topics/again
	mkdir bindings/empty
	echo false >config/mandatory
	local before
	before=$(find . -printf '%p %y %m %l\n' | sort)
	remount
	is "$(find . -printf '%p %y %m %l\n' | sort)" "$before"
	is "$(cat type config/mandatory | tr '\n' ' ')" 'direct false '
	pub k x
	is "$(got topics/again)" 'x '
	fails EBUSY rmdir "$M/topics/again"
}

@test "a thousand patterns and bindings are listed once each, and rm -r takes all" {
	exchange
	mkdir -p "$M/topics/many" bindings/all
	(cd bindings && seq -f 'p.%g' 1000 | xargs mkdir)
	(cd bindings/all && for i in $(seq 600); do ln -s ../../../../topics/many "a-binding-with-a-long-name-$i"; done)
	is "$(ls bindings | sort -u | wc -l) $(ls bindings | wc -l)" '1001 1001'
	is "$(ls -U bindings/all | sort -u | wc -l) $(ls -U bindings/all | wc -l)" '600 600'
	pub all x
	is "$(got topics/many)" 'x '
	rm -r bindings/*
	is "$(ls bindings)" ''
	is "$(awk '$1 == "bindings" { print $2 }' info)" 0
}

# -------------------------------------------------------------------------------------------------- publishing

@test "in.json: routing key, headers, key of the topic, priority of the queue; it is listed, and plain in is not there" {
	exchange
	bind 'o.*' topics/tj
	bind 'o.*' queues/qj
	echo '{"payload":"a","routing_key":"o.x","key":"k","headers":{"h":"v"},"priority":7}' >>in.json
	[[ $(cat "$M/topics/tj/0/log.json") == *'"key":"k"'*'"routing_key":"o.x"'*'"h":"v"'* ]]
	is "$(ls "$M/queues/qj/priority/7/ready" | wc -l)" 1
	is "$(ls)" "$(printf '%s\n' bindings config in.json info keys type)"
	fails EPERM sh -c '/bin/echo x >>in'
	fails EPERM sh -c '/bin/echo x >>in.nul'
	fails EINVAL sh -c '/bin/echo "{\"payload\":1}" >>in.json'
	# What a reader got goes in as it is.
	cat "$M/topics/tj/0/log.json" >>in.json
	is "$(got topics/tj)" 'a a '
}

@test "of several records those before one that is refused are taken, each to all its targets" {
	exchange
	bind a topics/s1
	bind a topics/s2
	printf '{"payload":"%s","routing_key":"%s"}\n' 1 a 2 a 3 none 4 a >"$BATS_TEST_TMPDIR/records"
	fails EHOSTUNREACH dd if="$BATS_TEST_TMPDIR/records" of=in.json oflag=append conv=notrunc bs=64k status=none
	is "$(got topics/s1)$(got topics/s2)" '1 2 1 2 '
}

full_target() {
	bind k topics/e1
	bind k queues/e2
	bind k topics/e3
	echo 1 >"$M/queues/e2/config/max.length"
	echo reject-publish >"$M/queues/e2/config/overflow"
	in_shell 'echo one >>keys/k'
	fails EDQUOT "$SHELL_NAME" -c '/bin/echo two >>keys/k'
	told EDQUOT 'the queue e2 is full'
	fails EDQUOT "$SHELL_NAME" -c '/bin/printf two >>keys/k'
	is "$(got topics/e1)|$(got topics/e3)" 'one |one '
	echo 4 >"$M/topics/e3/config/max.message.bytes"
	t cat "$M/queues/e2/take" >/dev/null
	fails EMSGSIZE "$SHELL_NAME" -c '/bin/echo three >>keys/k'
	is "$(got topics/e1)|$(got queues/e2)|$(got topics/e3)" 'one ||one '
	in_shell 'echo four >>keys/k'
	is "$(got topics/e1)|$(got queues/e2)|$(got topics/e3)" 'one four |four |one four '
	rm -r bindings/k
	echo all >"$M/queues/e2/purge"
	echo all >"$M/topics/e1/purge"
	echo all >"$M/topics/e3/purge"
	rmdir "$M/queues/e2" "$M/topics/e1" "$M/topics/e3"
}

@test "if one target refuses, none has it" {
	for SHELL_NAME in $SHELLS; do
		exchange
		full_target
	done
}

@test "alternate.exchange gets what nothing matches; mandatory false drops and counts" {
	exchange
	bind a topics/alt1
	mkdir "$M/exchanges/rest" && echo fanout >"$M/exchanges/rest/type" && mkdir -p "$M/exchanges/rest/bindings/x" "$M/topics/alt2"
	ln -s ../../../../topics/alt2 "$M/exchanges/rest/bindings/x/"
	fails ENOENT sh -c '/bin/echo exchanges/no-such >config/alternate.exchange'
	echo exchanges/rest >config/alternate.exchange
	is "$(cat config/alternate.exchange)" exchanges/rest
	pub a 1
	pub b 2
	is "$(got topics/alt1)|$(got topics/alt2)" '1 |2 '
	echo none >config/alternate.exchange
	fails EHOSTUNREACH sh -c '/bin/echo 3 >>keys/b'
	echo false >config/mandatory
	pub b 4
	is "$(awk '$1 == "unroutable" { print $2 }' info)" 1
	[[ $(cat "$M/status/metrics") == *"mqfs_exchange_unroutable_total{exchange=\"${X##*/}\"} 1"* ]]
	fails EINVAL sh -c '/bin/echo perhaps >config/mandatory'
	echo false >"$M/config/exchanges/mandatory"
	exchange
	is "$(cat config/mandatory)" false
	echo true >"$M/config/exchanges/mandatory"
}

@test "fsync and O_DSYNC on keys/KEY and in.json confirm what went to all targets" {
	exchange
	bind k topics/y1
	bind k queues/y2
	echo -1 >"$M/topics/y1/config/flush.ms"
	t dd of=keys/k oflag=append,dsync conv=notrunc status=none <<<one
	is "$(awk '$1 == "partition.0.synced" { print $2 }' "$M/topics/y1/info")" 1
	echo two >>keys/k
	t dd of=in.json oflag=append conv=notrunc,fsync status=none <<<'{"payload":"three","routing_key":"k"}'
	is "$(awk '$1 == "partition.0.synced" { print $2 }' "$M/topics/y1/info")" 3
	echo four >>keys/k
	t sync in.json
	is "$(awk '$1 == "partition.0.synced" { print $2 }' "$M/topics/y1/info")" 4
}

@test "permission is that of the exchange; whoever binds must be allowed to produce there" {
	exchange
	bind k topics/p1
	mkdir "$M/topics/p2"
	chmod 600 "$M/topics/p1/in" "$M/topics/p2/in"
	chmod 777 "$X" bindings bindings/k
	chmod 666 in.json
	as_nobody() { t setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
	as_nobody sh -c '/bin/echo x >>keys/k'
	is "$(got topics/p1)" 'x '
	fails EACCES setpriv --reuid=65534 --regid=65534 --clear-groups ln -s ../../../../topics/p2 bindings/k/
	told EACCES p2
	chmod 602 "$M/topics/p2/in"
	as_nobody ln -s ../../../../topics/p2 bindings/k/
	chmod 600 in.json
	fails EACCES setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '/bin/echo y >>keys/k'
}

as_1001() {
	t setpriv --reuid=1001 --regid=1001 --clear-groups "$@"
}

# Where messages go by a setting takes the right to produce there, too: of who writes it, and of who opened the file.
named_targets() {
	local queue=sent$SHELL_NAME mine
	mkdir "$M/queues/$queue" "$M/exchanges/$queue"
	chmod 1777 "$M/queues" "$M/exchanges"
	mine=queues/mine$SHELL_NAME
	cd "$M"
	as_1001 mkdir "$mine" "exchanges/mine$SHELL_NAME"
	fails EACCES setpriv --reuid=1001 --regid=1001 --clear-groups "$SHELL_NAME" -c "/bin/echo queues/$queue >$mine/config/dead.letter.to"
	told EACCES "you may not write to queues/$queue/in"
	fails EACCES setpriv --reuid=1001 --regid=1001 --clear-groups "$SHELL_NAME" -c "/bin/printf '%300s' exchanges/$queue >$mine/config/dead.letter.to"
	fails EACCES setpriv --reuid=1001 --regid=1001 --clear-groups "$SHELL_NAME" -c "/bin/echo $queue >exchanges/mine$SHELL_NAME/config/alternate.exchange"
	told EACCES "exchanges/$queue/in.json"
	# A program with more rights that is given the open file.
	fails EACCES python3 - "$mine/config/dead.letter.to" "queues/$queue" <<-'END'
		import os, sys
		os.setegid(1001); os.seteuid(1001)
		fd = os.open(sys.argv[1], os.O_WRONLY)
		os.seteuid(0); os.setegid(0)
		os.write(fd, sys.argv[2].encode())
	END
	# One with less rights, too, by the ids that its calls are made with.
	fails EACCES python3 - "$mine/config/dead.letter.to" "queues/$queue" <<-'END'
		import os, sys
		fd = os.open(sys.argv[1], os.O_WRONLY)
		os.setgroups([]); os.setegid(1001); os.seteuid(1001)
		os.write(fd, sys.argv[2].encode())
	END
	# Of owner, group and others the first that fits counts, whatever the next may.
	local rights
	for rights in '1001:1001 466' '1001:0 466' '0:1001 646' '0:0 664'; do
		chown "${rights% *}" "queues/$queue/in"
		chmod "${rights#* }" "queues/$queue/in"
		fails EACCES setpriv --reuid=1001 --regid=1001 --clear-groups "$SHELL_NAME" -c "/bin/echo queues/$queue >$mine/config/dead.letter.to"
	done
	chown 0:0 "queues/$queue/in"
	is "$(cat "$mine/config/dead.letter.to" "exchanges/mine$SHELL_NAME/config/alternate.exchange" | tr '\n' ' ')" 'dlq none '
	as_1001 "$SHELL_NAME" -c "echo queues/later$SHELL_NAME >$mine/config/dead.letter.to && echo none >$mine/config/dead.letter.to"
	chmod 755 "$M/queues" "$M/exchanges"
	fails EACCES setpriv --reuid=1001 --regid=1001 --clear-groups "$SHELL_NAME" -c "/bin/echo queues/later$SHELL_NAME >$mine/config/dead.letter.to"
	told EACCES 'nor may you make it'
	chgrp 1002 "queues/$queue/in" && chmod 620 "queues/$queue/in"
	t setpriv --reuid=1001 --regid=1001 --groups=1002 "$SHELL_NAME" -c "echo queues/$queue >$mine/config/dead.letter.to"
	is "$(cat "$mine/config/dead.letter.to")" "queues/$queue"
	chmod 602 "exchanges/$queue/in.json"
	as_1001 "$SHELL_NAME" -c "echo exchanges/$queue >exchanges/mine$SHELL_NAME/config/alternate.exchange"
}

@test "dead.letter.to and alternate.exchange take the right to produce where they lead (bash, dash)" {
	for SHELL_NAME in $SHELLS; do named_targets; done
}

@test "Python publishes, binds and lists as a shell does" {
	exchange
	mkdir -p "$M/topics/py"
	t python3 - <<'EOF'
import errno, os
os.mkdir('bindings/a.#')
os.symlink('../../../../topics/py', 'bindings/a.#/py')
assert os.readlink('bindings/a.#/py') == '../../../../topics/py'
assert os.listdir('bindings') == ['a.#'] and os.listdir('bindings/a.#') == ['py']
with open('keys/a.b', 'a') as f:
    f.write('one\ntwo\n')
fd = os.open('keys/b', os.O_WRONLY | os.O_APPEND | os.O_CREAT)
try:
    os.write(fd, b'x\n')
    raise SystemExit('not refused')
except OSError as e:
    assert e.errno == errno.EHOSTUNREACH
os.close(fd)
os.unlink('bindings/a.#/py')
os.rmdir('bindings/a.#')
EOF
	is "$(got topics/py)" 'one two '
}

# ---------------------------------------------------------------------------------------------------- crashes

# The daemon is killed while two writers publish to five targets; then each message is with all of them or with none, and what a
# write had returned for is there.
@test "kill -9 in the middle of publishing to several targets: all have a message, or none" {
	exchange
	local n round target pids
	for n in 1 2 3; do bind '#' "topics/k$n"; done
	for n in 4 5; do bind '#' "queues/k$n"; done
	for round in 1 2 3 4 5 6; do
		pids=()
		for n in a b; do
			bash -c 'i=0; while /bin/echo "$1 $i" >>keys/x.y 2>/dev/null; do echo "$1 $i"; i=$((i + 1)); done' - "$n.$round" \
				>"$BATS_TEST_TMPDIR/told.$n.$round" 3>&- &
			pids+=($!)
		done
		eventually sh -c "[ \$(cat '$BATS_TEST_TMPDIR'/told.*.$round | wc -l) -gt $((RANDOM % 60 + 5)) ]"
		crash
		wait "${pids[@]}" || true
		sort "$M/topics/k1/0/log" >"$BATS_TEST_TMPDIR/all"
		is "$(uniq -d "$BATS_TEST_TMPDIR/all")" ''
		for target in topics/k2 topics/k3; do
			sort "$M/$target/0/log" | cmp - "$BATS_TEST_TMPDIR/all"
		done
		for target in queues/k4 queues/k5; do
			cat "$M/$target"/ready/*.json >/dev/null 2>&1 || true
			(cd "$M/$target/ready" && for f in *; do cat "$f"; echo; done) | sort | cmp - "$BATS_TEST_TMPDIR/all"
		done
		is "$(cat "$BATS_TEST_TMPDIR"/told.*.* | sort | comm -23 - "$BATS_TEST_TMPDIR/all")" ''
	done
}

# ------------------------------------------------------------------------------------------------- dead letters

all_dead_are() {
	[ "$(got topics/log$SHELL_NAME) $(got queues/lost$SHELL_NAME) $(got queues/more$SHELL_NAME)" = "$1 $1 $1" ]
}

dead_letters() {
	local dead id
	exchange
	bind 'dead.#' "queues/lost$SHELL_NAME"
	bind 'dead.#' "queues/more$SHELL_NAME"
	bind 'dead.#' "topics/log$SHELL_NAME"
	queue
	in_shell "
		echo exchanges/${X##*/} > config/dead.letter.to
		echo dead.letters > config/dead.letter.routing.key
		echo 2 > config/max.length
		echo reject-publish > '$M/queues/lost$SHELL_NAME/config/overflow'
		echo 1 > '$M/queues/lost$SHELL_NAME/config/max.length'
		echo a >> in && echo b >> in && echo c >> in
	"
	is "$(cat config/dead.letter.to config/dead.letter.routing.key | tr '\n' ' ')" "exchanges/${X##*/} dead.letters "
	eventually all_dead_are 'a '
	t cat next >/dev/null
	in_shell "echo '$(id_of b)' > reject"
	eventually all_dead_are 'a b '
	in_shell 'echo 1 > config/message.ttl.ms'
	eventually all_dead_are 'a b c '
	is "$(ls dlq/ready)" ''
	for dead in maxlen rejected expired; do
		id=$(ls -U "$M/queues/more$SHELL_NAME/ready" | head -n 1)
		is "$(grep -o '"routing_key":"[^"]*"' "$M/queues/more$SHELL_NAME/ready/$id.json")" '"routing_key":"dead.letters"'
		is "$(grep -o '"deaths":\[{"queue":"[^"]*","reason":"[a-z]*","count":1,' "$M/queues/more$SHELL_NAME/ready/$id.json")" \
			"\"deaths\":[{\"queue\":\"${Q##*/}\",\"reason\":\"$dead\",\"count\":1,"
		rm "$M/queues/more$SHELL_NAME/ready/$id"
	done
	in_shell 'echo -1 > config/message.ttl.ms'
	dead_nowhere
	fails EINVAL "$SHELL_NAME" -c "/bin/echo exchanges/${X##*/} > dlq/config/dead.letter.to"
}

# Nothing matches, a circle; an exchange that has another name, or is gone: then they stay in the dlq.
dead_nowhere() {
	local dropped
	dropped() { [ "$(Q=$Q/dlq info dropped)" = "$1" ]; }
	in_shell 'echo other > config/dead.letter.routing.key; echo d >> in; cat next >/dev/null'
	in_shell "echo '$(id_of d)' > reject"
	eventually dropped 1
	(cd "$X" && bind '*.self' "queues/${Q##*/}")
	in_shell 'echo my.self > config/dead.letter.routing.key; echo e >> in; echo 1 > config/message.ttl.ms'
	eventually dropped 2
	in_shell 'echo -1 > config/message.ttl.ms'
	is "$(info ready) $(ls dlq/ready)" '0 '
	mv "$X" "$X-renamed"
	in_shell 'echo f >> in; cat next >/dev/null'
	in_shell "echo '$(id_of f)' > reject"
	is "$(payloads dlq/ready)" 'f '
	mv "$X-renamed" "$X"
	in_shell 'echo dead.again > config/dead.letter.routing.key; echo g >> in; cat next >/dev/null'
	in_shell "echo '$(id_of g)' > reject"
	eventually sh -c "[ \"\$(tail -n 1 '$M/topics/log$SHELL_NAME/0/log')\" = g ]"
	is "$(payloads dlq/ready)" 'f '
	mv "$X" "$X-renamed"
	mkdir "$X"
	rmdir "$X"
	in_shell 'echo h >> in; cat next >/dev/null'
	in_shell "echo '$(id_of h)' > reject"
	is "$(payloads dlq/ready)" 'f h '
}

@test "dead letters go through an exchange: overflow, reject, time; nowhere, a circle, no such exchange (bash, dash)" {
	for SHELL_NAME in $SHELLS; do dead_letters; done
}

@test "dead letters on their way through an exchange are neither lost nor doubled by kill -9" {
	local i n
	exchange
	bind '#' queues/d1
	bind '#' topics/d2
	queue
	echo "exchanges/${X##*/}" >config/dead.letter.to
	for i in 1 2 3; do
		for n in 1 2 3 4 5 6 7 8 9; do echo "$i.$n"; done >>in
		echo 1 >config/message.ttl.ms
		eventually sh -c "[ \$(wc -l <'$M/topics/d2/0/log') -ge $((i * 9 - 6)) ]"
		crash
		cd "$Q"
		eventually sh -c "[ \$(wc -l <'$M/topics/d2/0/log') -ge $((i * 9)) ] && [ -z \"\$(ls '$Q/dlq/ready' '$Q/ready' | grep -v :)\" ]"
		is "$(sort "$M/topics/d2/0/log" | uniq -d)" ''
		is "$(got queues/d1 | tr ' ' '\n' | sort)" "$(sort "$M/topics/d2/0/log")"
		echo -1 >config/message.ttl.ms
	done
	is "$(wc -l <"$M/topics/d2/0/log")" 27
}
