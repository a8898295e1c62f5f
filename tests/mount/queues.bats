#!/usr/bin/env bats
# Queues: order, leases, settling, dead letters, limits, messages as files.
load helpers

# ------------------------------------------------------------------------------------------ order

@test "highest priority first, then the order of arrival; head goes before" {
	queue
	printf 'a\nb\n' >>in
	echo p5 >>priority/5/in
	echo '{"payload":"p9","priority":9}' >>in.json
	echo front >>./head
	printf 'two\0lines\nhere\0' >>in.nul
	echo file >put/x.tmp && mv put/x.tmp put/x
	is "$(payloads ready | tr '\n' '~')" 'p9 p5 front a b two lines~here file '
	is "$(ls priority | tr '\n' ' ')" '0 1 2 3 4 5 6 7 8 9 '
	is "$(payloads priority/5/ready)" 'p5 '
	is "$(for i in 1 2 3; do t cat take; done | tr '\n' ' ')" 'p9 p5 front '
	is "$(t cat take.raw)" a
}

@test "eight producers: each one's order is kept, and priorities are strict" {
	local p
	queue
	for p in 0 1 2 3 4 5 6 7; do
		for i in $(seq 200); do echo "$p $i"; done | t tee -a "priority/$((p % 3))/in" >/dev/null &
	done
	wait
	# In each priority by the order of arrival, which is that of the ids, whoever produced; and one priority after the other.
	for p in 0 1 2; do ls -U "priority/$p/ready" | sort -C -u; done
	is "$(ls -U ready | md5sum)" "$(ls -U priority/2/ready priority/1/ready priority/0/ready | grep '^[0-9]' | md5sum)"
	echo 0 >config/prefetch
	t cat out >"$BATS_TEST_TMPDIR/all"
	is "$(wc -l <"$BATS_TEST_TMPDIR/all")" 1600
	is "$(awk '{ print $1 % 3 }' "$BATS_TEST_TMPDIR/all" | uniq | tr '\n' ' ')" '2 1 0 '
	awk '$2 != ++next_of[$1] { exit 1 }' "$BATS_TEST_TMPDIR/all"
}

@test "out gives what is there at most prefetch; any buffer size gives each message once" {
	queue
	seq 300 >>in
	is "$(t cat out | wc -l)" 256
	is "$(info unacked)" 256
	t cat next >/dev/null
	is "$(info unacked)" 256
	mkdir consumers/c
	is "$(t dd if=consumers/c/out bs=1 status=none | tr '\n' ' ')" "$(seq 257 300 | tr '\n' ' ')"
}

@test "dead letters go to the queue that has the name; while none has it they stay, which is told once" {
	queue
	printf '%s\n' a b c d >>in
	mkdir "$Q-to"
	echo "queues/${Q##*/}-to" >config/dead.letter.to
	mv "$Q-to" "$Q-gone"
	reject_next() { t cat next >/dev/null && id_of "$1" >./reject; }
	reject_next a
	told ENOENT "${Q##*/}: dead.letter.to is queues/${Q##*/}-to, which is not there: dead letters stay in ${Q##*/}/dlq"
	reject_next b
	is "$(payloads dlq/ready)" 'a b '
	is "$(grep -c "is queues/${Q##*/}-to, which" "$M/status/errors")" 1
	mkdir "$Q-to"
	reject_next c
	is "$(payloads "$Q-to/ready")$(payloads "$Q-gone/ready")" 'c '
	rm "$Q-to/ready/"* && rmdir "$Q-to"
	reject_next d
	is "$(grep -c "is queues/${Q##*/}-to, which" "$M/status/errors")" 2
	is "$(payloads dlq/ready)" 'a b d '
}

# ------------------------------------------------------------------------------------------ settling

settle_check() {
	printf '%s\n' a b c d e >>in
	mkdir consumers/w
	cd consumers/w
	in_shell 'job=$(cat next); [ "$job" = a ]; echo all > ack'
	is "$(info acked)" 1
	in_shell 'cat out > /dev/null'
	b=$(id_of b) c=$(id_of c) d=$(id_of d)
	in_shell "echo $b > nack"
	is "$(payloads "$Q/ready")" 'b '
	is "$(t cat "$Q/ready/$b.json" | grep -c '"redelivered":true,"deliveries":1')" 1
	in_shell "echo $((10#$c))-$((10#$d)) > reject"
	is "$(payloads "$Q/dlq/ready")" 'c d '
	is "$(payloads unacked)" 'e '
	in_shell 'printf "%s\n" all > ack'
	is "$(t cat next.json | grep -o -e '"redelivered":[^,]*' -e '"deliveries":[^,]*' -e '"payload":.*' | tr '\n' ' ')" \
		'"redelivered":true "deliveries":2 "payload":"b"} '
}

@test "next, out, ack, nack with redelivered, reject of a range, all (bash, dash)" {
	each_shell_queue settle_check
}

@test "who may not settle is told why" {
	queue
	printf '%s\n' a b c >>in
	mkdir consumers/x consumers/y
	t cat consumers/x/next
	a=$(id_of a) b=$(id_of b)
	fails EPERM bash -c "echo $a > consumers/y/ack"
	fails EPERM bash -c "echo $a > ack"
	fails ENOENT bash -c "echo $b > consumers/x/ack"
	fails ENOENT bash -c "echo 999999999 > consumers/x/ack"
	fails EINVAL bash -c "echo all > ack"
	fails EINVAL bash -c "echo > consumers/x/ack"
	fails EINVAL bash -c "echo bogus > consumers/x/ack"
	echo "$a" >consumers/x/ack
	fails EALREADY bash -c "echo $a > consumers/x/ack"
	t cat consumers/x/next
	echo 100 >config/ack.timeout.ms
	eventually ready_is 'b c '
	fails ESTALE bash -c "echo $b > consumers/x/ack"
}

# ------------------------------------------------------------------------------------------ states

# Brings a message x to a state: READY, MINE (leased by consumers/me), OTHERS, DELAYED, DEAD, GONE.
make_state() {
	queue
	echo other >>config/../dlq/in && rm dlq/ready/*
	mkdir consumers/me consumers/you "$Q-2"
	case $1 in
	DELAYED) echo '{"payload":"x","delay_ms":600000}' >>in.json ;;
	*) echo x >>in ;;
	esac
	X=$(id_of x)
	case $1 in
	MINE) t cat consumers/me/next >/dev/null ;;
	OTHERS) t cat consumers/you/next >/dev/null ;;
	DEAD) mv "ready/$X" dlq/ready/ ;;
	GONE) t cat take >/dev/null ;;
	esac
}

state_of() {
	local at found=GONE
	for at in ready:READY consumers/me/unacked:MINE consumers/you/unacked:OTHERS unacked:UNACKED delayed:DELAYED \
		dlq/ready:DEAD "$Q-2/ready:MOVED" priority/9/ready:PRIORITY; do
		if [ -e "${at%:*}/$X" ]; then
			found=${at#*:}
			[ "$found" = READY ] || break
		fi
	done
	[ "$found" != READY ] || [ ! -e "priority/9/ready/$X" ] || found=PRIORITY
	echo "$found"
}

# state, verb, state afterwards or errno
states() {
	cat <<-'END'
		READY   echo $X > consumers/me/ack                 ENOENT
		READY   echo $X > consumers/me/nack                ENOENT
		READY   echo $X > consumers/me/reject              ENOENT
		READY   rm ready/$X                                GONE
		READY   rm unacked/$X                              ENOENT
		READY   touch -d +10min ready/$X                   DELAYED
		READY   mv ready/$X dlq/ready/                     DEAD
		READY   mv ready/$X consumers/me/unacked/          MINE
		READY   mv ready/$X priority/9/ready/              PRIORITY
		READY   mv ready/$X ../$(basename $Q)-2/ready/     MOVED
		MINE    echo $X > consumers/me/ack                 GONE
		MINE    echo $X > consumers/me/nack                READY
		MINE    echo $X > consumers/me/reject              DEAD
		MINE    rm unacked/$X                              GONE
		MINE    rm ready/$X                                ENOENT
		MINE    touch unacked/$X                           MINE
		MINE    mv unacked/$X ready/                       READY
		MINE    mv unacked/$X dlq/ready/                   DEAD
		MINE    mv unacked/$X priority/9/ready/            PRIORITY
		MINE    mv unacked/$X ../$(basename $Q)-2/ready/   MOVED
		OTHERS  echo $X > consumers/me/ack                 EPERM
		OTHERS  echo $X > consumers/me/nack                EPERM
		OTHERS  echo $X > consumers/me/reject              EPERM
		OTHERS  rm unacked/$X                              GONE
		OTHERS  mv unacked/$X consumers/me/unacked/        MINE
		DELAYED echo $X > consumers/me/ack                 ENOENT
		DELAYED rm delayed/$X                              GONE
		DELAYED mv delayed/$X ready/                       READY
		DELAYED touch delayed/$X                           READY
		DELAYED mv delayed/$X dlq/ready/                   DEAD
		DEAD    echo $X > consumers/me/ack                 ENOENT
		DEAD    rm dlq/ready/$X                            GONE
		DEAD    mv dlq/ready/$X ready/                     READY
		DEAD    echo $X > dlq/redrive                      READY
		DEAD    echo all > dlq/redrive                     READY
		GONE    rm ready/$X                                ENOENT
		GONE    mv ready/$X dlq/ready/                     ENOENT
		GONE    echo $X > dlq/redrive                      ENOENT
	END
}

@test "the lifecycle: every transition, and every one that is refused" {
	local state verb result count=0
	while read -r state verb; do
		result=${verb##* }
		verb=${verb% *}
		make_state "$state"
		export X Q
		echo "$state: $verb -> $result"
		case $result in
		E*) fails "$result" bash -c "$verb" ;;
		*)
			t bash -c "$verb"
			is "$(state_of)" "$result"
			;;
		esac
		count=$((count + 1))
	done < <(states)
	is "$count" 38
}

@test "of two movers one wins, and the other gets ENOENT" {
	local round won
	queue
	mkdir "$Q-b" "$Q-c"
	for round in 1 2 3 4 5; do
		echo m >>in
		x=$(id_of m)
		(mv "ready/$x" "$Q-b/ready/" 2>/dev/null && echo b >>"$BATS_TEST_TMPDIR/won") &
		(mv "ready/$x" "$Q-c/ready/" 2>/dev/null && echo c >>"$BATS_TEST_TMPDIR/won") &
		wait
		won=$(wc -l <"$BATS_TEST_TMPDIR/won")
		is "$won" "$round"
	done
	is "$(($(ls "$Q-b/ready" | wc -l) + $(ls "$Q-c/ready" | wc -l)))" 5
}

# ------------------------------------------------------------------------------------------ leases

session_check() {
	printf '%s\n' a b c >>in
	mkdir consumers/w
	# The child has the descriptor, and lives on.
	in_shell 'exec 9>consumers/w/session; cat consumers/w/out >/dev/null; sleep 30 & echo $! >"$0"; kill -9 $$' "$BATS_TEST_TMPDIR/child" || true
	is "$(payloads ready)" 'a b c '
	is "$(t cat next.json | grep -o '"redelivered":true,"deliveries":2')" '"redelivered":true,"deliveries":2'
	kill "$(cat "$BATS_TEST_TMPDIR/child")"
}

@test "what a session held is ready again the instant its holder is killed (bash, dash)" {
	each_shell_queue session_check
}

takes_over() {
	local pid
	mkdir consumers/a consumers/b
	echo true >config/single.active.consumer
	printf 'm\nn\n' >>in
	exec 9>consumers/a/session
	in_shell 'cat consumers/b/wait > "$0"' "$BATS_TEST_TMPDIR/given" 9>&- &
	pid=$!
	until grep -qx 'consumers 2' info; do sleep 0.01; done
	fails EBUSY cat consumers/b/next
	is "$(cat consumers/a/next)" m
	kill -0 $pid
	exec 9>&-
	wait $pid
	is "$(cat "$BATS_TEST_TMPDIR/given")" m
}

takes_turns() {
	mkdir consumers/a consumers/b
	echo true >config/single.active.consumer
	seq 6 >>in
	# Nothing but the lease says who is active while a worker works: a message is begun when the one before is done.
	for w in a b; do
		in_shell 'cd consumers/$1; for i in 1 2 3; do m=$(cat wait); echo "+$m" >> "$0"; echo "-$m" >> "$0"; echo all > ack; done' \
			"$BATS_TEST_TMPDIR/log" $w 3>&- &
	done
	wait
	is "$(tr '\n' ' ' <"$BATS_TEST_TMPDIR/log")" '+1 -1 +2 -2 +3 -3 +4 -4 +5 -5 +6 -6 '
	rm "$BATS_TEST_TMPDIR/log"
}

@test "under single.active.consumer loops of cat wait and ack take turns, one message after the other (bash, dash)" {
	each_shell_queue takes_turns
}

@test "under single.active.consumer who waits takes over when the active one goes (bash, dash)" {
	each_shell_queue takes_over
}

@test "a live holder's lease is not taken; an ordinary one ends while the daemon runs; touch renews it" {
	queue
	printf '%s\n' held mine >>in
	echo 300 >config/ack.timeout.ms
	mkdir consumers/h consumers/m
	exec 9>consumers/h/session
	t cat consumers/h/next >/dev/null
	t cat consumers/m/next >/dev/null
	eventually ready_is 'mine '
	is "$(payloads consumers/h/unacked)" 'held '
	exec 9>&-
	is "$(payloads ready)" 'held mine '
	# Twice the time of a lease, in which it is renewed ten times.
	echo 1000 >config/ack.timeout.ms
	t cat consumers/m/next >/dev/null
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.2
		touch consumers/m/unacked/*
	done
	is "$(payloads consumers/m/unacked)" 'held '
	eventually ready_is 'held mine '
}

@test "a stream that is killed gives back what it was given, and a reader that waits gets nothing when killed" {
	queue
	echo a >>in
	# shellcheck disable=SC2094
	cat stream >"$BATS_TEST_TMPDIR/got" 3>&- &
	eventually test -s "$BATS_TEST_TMPDIR/got"
	is "$(payloads unacked)" 'a '
	kill -9 $!
	eventually ready_is 'a '
	rm ready/*
	cat wait >"$BATS_TEST_TMPDIR/none" 3>&- &
	blocked $!
	kill -9 $!
	wait $! || true
	echo b >>in
	is "$(payloads ready)" 'b '
}

check_killed_beside_consumer() {
	mkdir consumers/c
	echo one >>in
	in_shell 'exec 5<consumers/c/next; read -r line <&5; [ "$line" = one ]; sh -c "kill -9 \$\$" || :; ls consumers/c/unacked | wc -l >"$1"' - "$BATS_TEST_TMPDIR/leased"
	is "$(cat "$BATS_TEST_TMPDIR/leased")" 1
	is "$(payloads consumers/c/unacked)" 'one '
}
@test "what a shell was given stays its own when a process is killed that has the file from it (bash, dash)" {
	each_shell_queue check_killed_beside_consumer
}

@test "what a reader was given that is killed with the file open goes back at once, and only that" {
	queue
	printf '%s\n' a b c d e f >>in
	mkdir consumers/w
	# The shell holds what it has read of next, wait and out; its child, which reads on, has ended before.
	bash -c 'read -r x <consumers/w/next; exec 3<consumers/w/wait; read -r y <&3; exec 4<out; read -r z <&4; echo "$x$y$z"; kill -9 $$' \
		>"$BATS_TEST_TMPDIR/read" || true
	is "$(cat "$BATS_TEST_TMPDIR/read")" abc
	# next was closed when its reader lived.
	eventually ready_is 'b c d e f '
	is "$(payloads consumers/w/unacked)" 'a '
	# A lease that went on to another is not taken from it.
	bash -c 'exec 4<wait; read -r x <&4; echo "$x"; exec sleep 60' >"$BATS_TEST_TMPDIR/read" 3>&- &
	local slow=$!
	eventually grep -q b "$BATS_TEST_TMPDIR/read"
	echo 100 >config/ack.timeout.ms # of the leases there are, too
	eventually eval '[ "$(info unacked)" = 0 ]'
	echo 300000 >config/ack.timeout.ms
	t cat out >/dev/null
	kill -9 $slow
	wait $slow || true
	is "$(payloads unacked)" 'a b c d e f '
	is "$(info ready)" 0
}

@test "killed while a message is on its way to it: 100 readers, and none keeps a lease" {
	queue
	mkdir consumers/w
	timeout 60 python3 - 3>&- <<-'END'
		import os, random, signal, subprocess, time
		for i in range(100):
		    reader = subprocess.Popen(["cat", "consumers/w/wait"], stdout=subprocess.PIPE)
		    while open(f"/proc/{reader.pid}/syscall").read().split()[0] != "0":
		        pass
		    os.write(os.open("in", os.O_WRONLY), b"m\n")
		    until = time.perf_counter() + random.random() * 0.0006
		    while time.perf_counter() < until:
		        pass
		    reader.kill()
		    seen = reader.stdout.read()
		    reader.wait()
		    unacked, ready = os.listdir("consumers/w/unacked"), os.listdir("ready")
		    assert len(unacked) + len(ready) == 1
		    # Still leased is only what a reader was given that had ended by itself.
		    assert ready or (seen == b"m\n" and reader.returncode in (0, -signal.SIGKILL)), (seen, reader.returncode)
		    for where, names in ("consumers/w/unacked", unacked), ("ready", ready):
		        for name in names:
		            os.unlink(where + "/" + name)
	END
}

@test "leases, deliveries and dead letters are there after kill -9 and after a remount" {
	queue
	printf '%s\n' a b c d >>in
	mkdir consumers/w
	t cat consumers/w/next >/dev/null
	t cat consumers/w/next >/dev/null
	echo "$(id_of b)" >consumers/w/nack
	mv "ready/$(id_of c)" dlq/ready/
	mv "ready/$(id_of d)" priority/9/ready/
	crash
	is "$(payloads consumers/w/unacked)" 'a '
	is "$(payloads ready)" 'd b '
	is "$(payloads dlq/ready)" 'c '
	remount
	is "$(payloads ready)" 'd b '
	echo all >consumers/w/ack
	is "$(info acked)" 1
	t cat take >/dev/null
	is "$(t cat next.json | grep -o '"deliveries":2')" '"deliveries":2'
}

# ------------------------------------------------------------------------------------------ dead letters and limits

@test "deaths: rejected, expired, maxlen, delivery_limit; newest first, counted" {
	queue
	echo r >>in
	mv "ready/$(id_of r)" dlq/ready/
	mv "dlq/ready/$(id_of r)" ready/
	mv "ready/$(id_of r)" dlq/ready/
	is "$(grep -o '"deaths":.*' "dlq/ready/$(id_of r).json" | grep -o '"queue":"[^"]*","reason":"rejected","count":2')" \
		"\"queue\":\"${Q##*/}\",\"reason\":\"rejected\",\"count\":2"
	rm dlq/ready/*
	echo '{"payload":"e","ttl_ms":1}' >>in.json
	eventually eval '[ "$(info dead)" = 1 ]'
	is "$(grep -ho '"reason":"[a-z_]*"' "dlq/ready/$(id_of e).json")" '"reason":"expired"'
	rm dlq/ready/*
	echo 1 >config/max.length
	printf '%s\n' old new >>in
	is "$(payloads ready)" 'new '
	is "$(grep -ho '"reason":"[a-z_]*"' "dlq/ready/$(id_of old).json")" '"reason":"maxlen"'
	rm dlq/ready/* ready/*
	echo 0 >config/delivery.limit
	echo l >>in
	t cat next >/dev/null
	echo "$(id_of l)" >nack
	is "$(grep -ho '"reason":"[a-z_]*"' "dlq/ready/$(id_of l).json")" '"reason":"delivery_limit"'
}

refuse_check() {
	echo reject-publish >config/overflow
	echo 2 >config/max.length
	in_shell 'echo a >> in && echo b >> in'
	not in_shell 'echo c >> in' 2>/dev/null
	is "$(payloads ready)" 'a b '
	is "$(tail -n 1 "$M/status/errors" | grep -c EDQUOT)" 1
	t cat take >/dev/null
	in_shell 'echo c >> in'
	echo reject-publish-dlx >config/overflow
	in_shell 'echo d >> in'
	is "$(payloads dlq/ready)" 'd '
}

@test "overflow: reject-publish is EDQUOT of the write itself, reject-publish-dlx makes dead letters (bash, dash)" {
	each_shell_queue refuse_check
}

@test "ttl, delay, redelivery.delay.ms, max.length.bytes, purge, expires.ms" {
	queue
	echo 50 >config/message.ttl.ms
	echo '{"payload":"x","ttl_ms":600000}' >>in.json
	eventually eval '[ "$(info dead)" = 1 ]'
	echo -1 >config/message.ttl.ms
	echo '{"payload":"later","delay_ms":200}' >>in.json
	is "$(payloads delayed)" 'later '
	eventually ready_is 'later '
	echo 100 >config/redelivery.delay.ms
	t cat next >/dev/null
	echo "$(id_of later)" >nack
	is "$(info delayed)" 1
	eventually ready_is 'later '
	echo 5 >config/max.length.bytes
	echo 1234 >>in
	is "$(payloads ready)" '1234 '
	fails ENOTEMPTY rmdir "$Q"
	echo all >purge
	echo all >dlq/purge
	is "$(info ready) $(info dead)" '0 0'
	echo 123 >>in
	t cat next >/dev/null
	echo all >purge
	fails ENOTEMPTY rmdir "$Q"
	told ENOTEMPTY 'what is leased'
	rm unacked/*
	echo 100 >config/expires.ms
	cd "$M"
	eventually test ! -e "$Q"
	T=
}

@test "settings: bad values are refused and change nothing; defaults are those of config/queues" {
	queue
	fails ERANGE bash -c 'echo 10 > config/max.priority'
	fails EINVAL bash -c 'echo sometimes > config/overflow'
	fails EINVAL bash -c 'echo queues/ > config/dead.letter.to'
	is "$(cat config/max.priority config/overflow config/dead.letter.to | tr '\n' ' ')" '9 drop-head dlq '
	echo 7 >"$M/config/queues/prefetch"
	queue
	is "$(cat config/prefetch)" 7
	echo 256 >"$M/config/queues/prefetch"
	mkdir consumers/c
	is "$(cat consumers/c/config/prefetch)" 7
	mv "$Q" "$Q-renamed"
	T=$Q-renamed
	is "$(ls "$M/queues" | grep -c "$(basename "$Q")-renamed")" 1
}

# ------------------------------------------------------------------------------------------ files

@test "a message's file: size, time, owner, metadata, numbers with and without zeros" {
	queue
	before=$(date +%s)
	printf 'hello\n' >>in
	x=$(ls ready)
	is "${#x}" 20
	is "$(stat -c '%s %U' "ready/$x")" '5 root'
	[ "$(stat -c %Y "ready/$x")" -ge "$before" ]
	is "$(cat "ready/$((10#$x))")" hello
	is "$(cat "ready/$x.json" | sed 's/"ts":[0-9]*/"ts":T/; s/"pid":[0-9]*/"pid":P/')" \
		"{\"queue\":\"${Q##*/}\",\"id\":$((10#$x)),\"priority\":0,\"ts\":T,\"redelivered\":false,\"deliveries\":0,\"headers\":{},\"uid\":0,\"gid\":0,\"pid\":P,\"payload\":\"hello\"}"
	is "$(stat -c %s "$Q" ready unacked | tr '\n' ' ')" '1 1 0 '
	is "$(grep -rl hello . | sort | tr '\n' ' ')" "./priority/0/ready/$x ./ready/$x "
	is "$(info ready)" 1
}

@test "walking over queues consumes nothing and hangs nowhere" {
	queue
	seq 20 >>in
	t cat next >/dev/null
	t find "$M/queues" >/dev/null
	t grep -r nothing "$Q" || true
	t tar -C "$M" -cf "$BATS_TEST_TMPDIR/x.tar" "queues/${Q##*/}"
	t cp -a "$Q" "$BATS_TEST_TMPDIR/copy"
	t du -s "$Q"
	is "$(info ready) $(info unacked) $(info delivered)" '19 1 1'
}

@test "another user may do what the modes say" {
	queue
	chmod 755 .
	echo a >>in
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'cat next'
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "rm ready/$(id_of a)"
	chmod a+w in
	t setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'echo theirs >> in'
	is "$(grep -o '"uid":[0-9]*' "ready/$(id_of theirs).json")" '"uid":65534'
	is "$(stat -c %U "ready/$(id_of theirs)")" root
	chmod a-w in
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'echo no >> in'
}
