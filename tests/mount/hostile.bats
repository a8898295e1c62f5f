# Hostile users: what one may hold of the daemon is bounded, so that others go on; what modes forbid changes nothing; and
# nothing that a name or a message holds reaches a terminal, a metrics label or a page as it is.
load helpers
# The system's python3, which others may run.
PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin

# as UID COMMAND...
as() {
	local uid=$1
	shift
	t setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
}

# Python for who takes all there is to take: reads that wait, half a line without an end, and then 10,000 opens. It prints
# what it got, and keeps it until its standard input ends.
GREEDY='
import errno, os, sys, threading
topic = sys.argv[1]
threading.stack_size(1 << 16)
lock, refused, parked = threading.Lock(), [], []

def wait_for_ever():
    fd = os.open(topic + "/groups/greedy/wait", os.O_RDONLY)
    try:
        os.read(fd, 100)
    except OSError as error:
        with lock:
            refused.append(error.errno)

threads = [threading.Thread(target=wait_for_ever, daemon=True) for i in range(80)]
for thread in threads:
    thread.start()
while len(refused) < 30: # what may wait is 50: the others come back
    for thread in threads:
        thread.join(0.01)
print("waiting", len(threads) - len(refused), *{errno.errorcode[e] for e in refused})

parts, chunk, ends = 0, b"x" * 10000, set()
for i in range(30):
    fd = os.open(topic + "/in", os.O_WRONLY | os.O_APPEND)
    try:
        for j in range(20):
            parts += os.write(fd, chunk)
    except OSError as error:
        ends.add(errno.errorcode[error.errno])
print("part", *ends)

made, end = 0, ""
try:
    for i in range(300):
        os.open(topic + "/put/%d.tmp" % i, os.O_WRONLY | os.O_CREAT)
        made += 1
except OSError as error:
    end = errno.errorcode[error.errno]
print("put", made, end)

opens, failed = 0, {}
for i in range(10000):
    try:
        os.open(topic + "/in", os.O_WRONLY)
        opens += 1
    except OSError as error:
        failed[errno.errorcode[error.errno]] = failed.get(errno.errorcode[error.errno], 0) + 1
print("open", opens + 80 + 30 + made, *failed, flush=True)
sys.stdin.read()
os._exit(0)
'

# used NAME UID - what status/metrics has of the user; nothing if they have nothing.
used() {
	sed -n "s/^mqfs_user_$1{uid=\"$2\"} //p" "$M/status/metrics"
}

nothing_charged_to() {
	[ -z "$(used open_files "$1")" ]
}

@test "one user with 10,000 opens, endless half lines and waiting reads meets limits; another goes on; all is given back" {
	remount -o user_parked=50,user_part_bytes=1000000
	topic
	chmod 666 in
	echo 0 >config/linger.ms # a channel of a topic that lingers keeps half a line on disk
	mkdir groups/greedy groups/other
	chmod 666 groups/greedy/ack groups/other/ack
	ulimit -n 20000
	mkfifo "$BATS_TEST_TMPDIR/hold"
	setpriv --reuid 65534 --regid 65534 --clear-groups python3 -c "$GREEDY" "$T" \
		<"$BATS_TEST_TMPDIR/hold" >"$BATS_TEST_TMPDIR/greedy" 2>&1 3>&- &
	local greedy=$!
	exec 7>"$BATS_TEST_TMPDIR/hold"
	eventually grep -q ^open "$BATS_TEST_TMPDIR/greedy" || { cat "$BATS_TEST_TMPDIR/greedy"; return 1; }
	is "$(cat "$BATS_TEST_TMPDIR/greedy")" "$(printf '%s\n' 'waiting 50 EDQUOT' 'part EDQUOT' 'put 128 EDQUOT' 'open 4096 EMFILE')"
	is "$(used open_files 65534)" 4096
	is "$(used waiting_reads 65534)" 50
	is "$(used put_files 65534)" 128
	[ "$(used part_bytes 65534)" -le 1000000 ]
	[ "$(used part_bytes 65534)" -ge 800000 ]
	told EMFILE user_handles
	[ "$(sed -n 's/^mqfs_user_refused_total{limit="user_parked"} //p' "$M/status/metrics")" -ge 30 ]

	# Another user has limits of their own, and is served.
	as 1 bash -c 'seq 1000 >>in; echo "{\"payload\":\"j\"}" >>in.json; printf f >put/f; exec 5>>in 6>>in; printf half >&5; echo whole >&6'
	is "$(as 1 cat groups/other/out | wc -l)" 1004
	as 1 bash -c 'echo all >groups/other/ack'
	as 1 cat groups/other/wait >"$BATS_TEST_TMPDIR/waited" 3>&- 7>&- &
	local waiting=$!
	eventually eval '[ "$(used waiting_reads 1)" = 1 ]'
	as 1 python3 -c '
import os, sys
for i in range(500): os.open("in", os.O_WRONLY)
' # and root has none
	echo for-who-waits >>in
	wait "$waiting"
	is "$(cat "$BATS_TEST_TMPDIR/waited")" for-who-waits
	eventually nothing_charged_to 1

	exec 7>&-
	wait "$greedy" || true
	eventually eval '[ "$(used open_files 65534)" = 0 ]'
	is "$(used put_files 65534) $(used waiting_reads 65534) $(used part_bytes 65534)" '128 0 0'
	as 65534 bash -c 'rm put/*.tmp' # these waited for another name
	eventually nothing_charged_to 65534
	remount
}

@test "a reader that Ctrl-C or kill -9 ends, a topic that goes while its files are open: what was charged is given back" {
	remount -o user_parked=3,user_handles=20
	topic
	chmod 666 in
	group
	chmod 666 groups/g/ack
	local i pids=
	for signal in INT KILL TERM; do
		pids=
		for i in 1 2 3; do
			setpriv --reuid 65534 --regid 65534 --clear-groups --reset-env python3 -c '
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
open("groups/g/wait").read()' 3>&- &
			pids+=" $!"
		done
		eventually eval '[ "$(used waiting_reads 65534)" = 3 ]'
		fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups cat groups/g/wait
		told EDQUOT 'user_parked=3'
		kill -"$signal" $pids
		wait $pids || true
		eventually nothing_charged_to 65534
	done
	as 65534 cat groups/g/stream 2>"$BATS_TEST_TMPDIR/err" 3>&- &
	exec 5>>in
	as 65534 bash -c 'exec 6>>in; printf half >&6; kill -KILL $$' || true
	eventually eval '[ "$(used open_files 65534)" = 1 ]'
	cd /
	rm -r "$T" 2>/dev/null || rmdir "$T"
	wait $! || true
	eventually nothing_charged_to 65534
	exec 5>&-
	T=
	remount
}

@test "files in put/: each is counted until it is a message, renamed, removed, refused or dropped with its writer" {
	remount -o user_put_files=2,user_part_bytes=1000
	topic
	chmod 666 in
	as 65534 bash -c 'echo 1 >put/a.tmp; echo 2 >put/b.tmp'
	is "$(used put_files 65534) $(used part_bytes 65534)" '2 4'
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'echo 3 >put/c'
	told EDQUOT user_put_files=2
	is "$(ls put)" "$(printf '%s\n' a.tmp b.tmp)"
	as 65534 mv put/a.tmp put/a
	is "$(used put_files 65534) $(used part_bytes 65534)" '1 2'
	as 65534 bash -c 'echo 3 >put/c; for i in 1 2 3 4 5; do echo $i >put/c$i; done'
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'head -c 2000 /dev/zero >put/d'
	told EDQUOT user_part_bytes=1000
	as 65534 bash -c 'head -c 900 /dev/zero >put/d'
	as 65534 bash -c 'echo 1 >put/x; exec 5>put/e; head -c 900 /dev/zero >&5; kill -KILL $$' || true
	is "$(ls put)" b.tmp
	as 65534 rm put/b.tmp
	nothing_charged_to 65534
	is "$(messages)" 9
	head -c 5000 /dev/zero >put/root # who mounted has no limit
	remount
}

@test "transactions: who has as many open, or as much staged, as one may have is refused; another goes on; all ends give back" {
	remount -o user_tx=3,user_tx_bytes=20000
	chmod 1777 "$M/tx"
	queue
	chmod 666 in ack nack reject
	cd "$M/tx"
	seq 10 >>"$Q/in"
	as 65534 mkdir t1 t2 t3
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups mkdir t4
	told EDQUOT user_tx=3
	not test -e t4
	is "$(used transactions 65534)" 3
	as 1 bash -c 'mkdir mine && echo other >>"mine/queues/${1##*/}/in" && echo commit >mine/state' - "$Q"

	# Half of what may be staged in each of two; the third write finds no room, and leaves what was.
	as 65534 bash -c 'for t in t1 t2; do printf "%09000d\n" 0 >>"$t/queues/$1/in"; done' - "${Q##*/}"
	[ "$(used staged_bytes 65534)" -ge 18000 ]
	local before
	before=$(used staged_bytes 65534)
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'printf "%03000d\n" 0 >>"t3/queues/$1/in"' - "${Q##*/}"
	told EDQUOT user_tx_bytes=20000
	is "$(used staged_bytes 65534)" "$before"
	is "$(cat t3/state)" open
	as 1 bash -c 'mkdir mine2 && printf "%09000d\n" 0 >>"mine2/queues/$1/in" && echo rollback >mine2/state' - "${Q##*/}"
	nothing_charged_to 1
	printf '%030000d\n' 0 >>"t3/queues/${Q##*/}/in" || true # who writes does not matter, but who made it
	is "$(used staged_bytes 65534)" "$before"
	mkdir root1 root2 root3 root4 # who mounted has no limit

	# Every end gives back.
	as 65534 bash -c 'echo commit >t1/state'
	is "$(used transactions 65534)" 2
	[ "$(used staged_bytes 65534)" -lt 10000 ]
	as 65534 mkdir t4
	as 65534 bash -c 'echo rollback >t2/state'
	is "$(used staged_bytes 65534)" 0
	as 65534 rmdir t3 t4
	nothing_charged_to 65534
	echo 100 >"$M/config/tx/tx.timeout.ms"
	as 65534 mkdir late
	eventually grep -q aborted late/state
	eventually nothing_charged_to 65534
	echo 60000 >"$M/config/tx/tx.timeout.ms"
	as 65534 mkdir open # and so does the end of the daemon
	remount
	nothing_charged_to 65534
	is "$(cat "$M/tx/open/state")" aborted
	chmod 755 "$M/tx"
}

@test "unacknowledged messages: who has as many as one may have is refused; another goes on; every end gives back" {
	remount -o user_unacked=5
	queue
	chmod 666 in ack nack reject next out stream wait
	chmod 777 ready unacked
	seq 20 >>in
	echo 0 >config/prefetch
	is "$(as 65534 cat out 2>/dev/null | tr '\n' ' ')" '1 2 3 4 5 ' # what fits
	is "$(used unacked_messages 65534)" 5
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups cat next
	told EDQUOT user_unacked=5
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups cat wait
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'mv "ready/$(ls ready | head -n 1)" unacked/'
	is "$(ls unacked | wc -l) $(ls ready | wc -l)" '5 15'
	is "$(as 1 cat next)" 6
	is "$(as 1 cat wait)" 7
	as 1 bash -c 'mv "ready/$(ls ready | head -n 1)" unacked/'
	is "$(used unacked_messages 1)" 3
	is "$(cat next) $(cat next)" '9 10' # who mounted has no limit
	local ids
	mapfile -t ids < <(ls unacked)
	as 65534 bash -c 'echo "$1" >ack; echo "$2" >nack; echo "$3" >reject' - "${ids[@]}"
	is "$(used unacked_messages 65534)" 2
	as 65534 cat next
	rm unacked/"${ids[3]}" unacked/"${ids[4]}"
	is "$(used unacked_messages 65534)" 1
	as 65534 bash -c 'timeout 20 head -n 3 <stream' >/dev/null
	eventually eval '[ "$(used unacked_messages 65534)" = 1 ]'
	as 1 bash -c 'for id in $(ls unacked); do echo $id >ack; done'
	nothing_charged_to 65534
	nothing_charged_to 1
	remount
}

@test "long messages in open files: who keeps as many bytes as one may keep is refused, and given nothing; another goes on" {
	remount -o user_read_bytes=1000000
	topic
	group
	mkdir "$M/queues/long"
	chmod 644 groups/g/ack
	chmod 666 "$M/queues/long/ack"
	local i
	for i in 1 2 3; do
		head -c 600000 /dev/zero | tr '\0' "$i" >put/long
		head -c 600000 /dev/zero | tr '\0' "$i" >"$M/queues/long/put/long"
	done
	echo short >>in
	as 65534 python3 -c '
import errno, os, sys
log, queue = sys.argv[1:3]
def first(path):
    fd = os.open(path, os.O_RDONLY)
    return fd, os.read(fd, 1)
def refused(call, *args):
    try:
        call(*args)
    except OSError as error:
        assert error.errno == errno.EDQUOT, error
    else:
        assert False, args
def all_kinds_refuse():
    for path in log + "/at/0", log + "/at/1.json", queue + "/ready/" + max(os.listdir(queue + "/ready")):
        refused(os.open, path, os.O_RDONLY)
    for path in log + "/log.json", log + "/log.nul", queue + "/next", queue + "/take", log + "/../groups/g/out":
        refused(first, path)
    assert os.read(os.open(log + "/log", os.O_RDONLY), 1) == b"1" # keeps nothing
    assert first(log + "/at/3")[1] == b"s" # nor does this
    assert b"EDQUOT" in os.read(os.open(sys.argv[3], os.O_RDONLY), 1 << 20)

one = os.open(log + "/at/0", os.O_RDONLY) # kept from the open on
two = first(log + "/at/1")[0]
all_kinds_refuse()
os.close(one)
os.close(two)
one = first(queue + "/next")[0]
two = first(log + "/log.json")[0]
all_kinds_refuse()
rest = sum(iter(lambda: len(os.read(one, 1 << 20)), 0))
assert rest == 600000, rest # and then the file is at its end
os.close(one)
three = first(queue + "/next")[0]
all_kinds_refuse()
os.close(two)
assert first(queue + "/next")[1] == b"3" # nothing was given to who was refused
print("done")
os.kill(os.getpid(), 9)
' "$T/0" "$M/queues/long" "$M/status/errors" >"$BATS_TEST_TMPDIR/out" || true
	is "$(cat "$BATS_TEST_TMPDIR/out")" 'done'
	eventually eval '[ "$(used open_files 65534) $(used read_bytes 65534)" = "0 0" ]' # what it was leased is still its own
	told EDQUOT user_read_bytes=1000000
	as 1 cat 0/at/0 0/at/1 0/at/2 | wc -c | grep -qx 1800000
	# One message can be had however long it is.
	head -c 3000000 /dev/zero >put/longer
	is "$(as 1 cat 0/at/4 | wc -c)" 3000000
	cd /
	remount
}

@test "objects: who has made as many as one may have is refused, open transactions count, ended ones make room; another goes on; all that goes gives back" {
	rmdir "$M"/tx/* 2>/dev/null || true # of other tests
	remount -o user_objects=6
	chmod 1777 "$M/topics" "$M/queues" "$M/exchanges" "$M/tx"
	cd "$M"
	is "$(used objects 65534)" ''
	as 65534 mkdir topics/a topics/a/groups/g topics/a/groups/g/members/m queues/a queues/a/consumers/c tx/open
	is "$(used objects 65534)" 6
	local path
	for path in topics/b topics/a/groups/h topics/a/groups/g/members/n queues/b queues/a/consumers/d exchanges/b tx/b; do
		fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups mkdir "$path"
		told EDQUOT user_objects=6
		not test -e "$path"
	done
	as 65534 bash -c 'echo x >>topics/a/in; cat topics/a/groups/g/members/m/next; echo 1 >queues/a/config/prefetch; echo y >>queues/a/in'
	as 1 mkdir topics/other exchanges/other tx/other
	mkdir topics/a/groups/root # of who mounted
	is "$(used objects 1)" 3
	# What has ended is remembered as long as there is room for it.
	as 65534 bash -c 'echo commit >tx/open/state'
	as 65534 bash -c 'for i in {1..20}; do mkdir tx/$i && echo "$i" >>tx/$i/topics/a/in && echo commit >tx/$i/state && [ "$(cat tx/$i/state)" = committed ] || exit; done'
	is "$(ls tx | tr '\n' ' ')" '20 other '
	is "$(used objects 65534) $(wc -l <topics/a/0/log)" '6 21'
	as 65534 mkdir exchanges/b
	is "$(ls tx)" other
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups mkdir tx/b

	# What is there counts at the next mount, for its owner, over the limit too.
	cd /
	remount -o user_objects=5
	cd "$M"
	is "$(used objects 65534) $(used objects 1)" '6 3'
	echo all >topics/a/purge
	as 65534 rmdir topics/a/groups/g/members/m
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups mkdir topics/b
	echo all >queues/a/purge
	as 65534 rmdir queues/a # with its consumer
	as 65534 mkdir topics/b topics/c
	fails EDQUOT setpriv --reuid 65534 --regid 65534 --clear-groups mkdir topics/d
	rmdir topics/a topics/b topics/c topics/other exchanges/b exchanges/other tx/other
	[ -z "$(used objects 65534)$(used objects 1)" ]
	chmod 755 "$M/topics" "$M/queues" "$M/exchanges"
	cd /
	remount
}

@test "at the limit of open files nothing is begun: no member joins, no file in put/ stays" {
	remount -o user_handles=3
	topic
	chmod 666 in
	as 65534 python3 -c '
import errno, os
fds = [os.open("in", os.O_WRONLY) for i in range(3)]
for path, flags in ("in", os.O_WRONLY), ("put/new.tmp", os.O_CREAT | os.O_WRONLY), ("0/log", os.O_RDONLY), ("info", os.O_RDONLY):
    try:
        os.open(path, flags)
    except OSError as error:
        assert error.errno == errno.EMFILE, error
    else:
        assert False, path
os.close(fds[0])
os.close(os.open("info", os.O_RDONLY))
os.write(fds[1], b"x\n")
'
	told EMFILE user_handles=3
	is "$(ls put)" ''
	is "$(cat 0/log)" x
	# Who joins takes partitions from those who are there, with what they were given.
	topic 2
	group
	chmod 666 in
	printf 'one\n' >>0/in
	printf 'two\n' >>1/in
	mkdir "$G/members/a" "$G/members/b"
	chown 65534 "$G/members/b/ack"
	: >"$G/members/b/session" # and it has left again
	t cat "$G/members/a/out" >/dev/null
	as 65534 python3 -c '
import errno, os, sys
fds = [os.open("in", os.O_WRONLY) for i in range(3)]
try:
    os.open(sys.argv[1], os.O_WRONLY)
except OSError as error:
    assert error.errno == errno.EMFILE, error
else:
    assert False
' "$G/members/b/session"
	echo all >"$G/members/a/ack"
	is "$(cat "$G/offset" | tr '\n' ' ')" '0 1 1 1 '
	remount
}

@test "limits are mount options: a number, 0 for none; what is no number is refused" {
	local value
	for value in '' -1 x 1x 99999999999999999999; do
		run t "$MQFS_PROGRAM" -o user_handles="$value" memory: "$BATS_TEST_TMPDIR"
		[ "$status" = 1 ]
		[[ $output == *user_handles*number* ]]
	done
	remount -o user_handles=0,user_parked=0,user_part_bytes=0,user_put_files=0
	topic
	chmod 666 in
	as 65534 bash -c 'for i in $(seq 200); do echo 1 >put/$i.tmp; done'
	is "$(used put_files 65534)" 200
	remount
	nothing_charged_to 65534
}

# ------------------------------------------------------------------------------------------ permission

# forbidden ERRNO SCRIPT - for uid 1, and nothing changes
forbidden() {
	local before
	before=$(find "$M/queues" "$M/exchanges" -printf '%p %m %U %G %l %s\n')
	fails "$1" setpriv --reuid 1 --regid 1 --clear-groups bash -c "$2"
	is "$(find "$M/queues" "$M/exchanges" -printf '%p %m %U %G %l %s\n')" "$before"
}

@test "queues and exchanges of one user: another can look, and change nothing" {
	chmod 1777 "$M/queues" "$M/exchanges"
	as 65534 mkdir "$M/queues/q" "$M/exchanges/x" "$M/queues/q/consumers/c"
	as 65534 bash -c "echo direct >'$M/exchanges/x/type'; mkdir '$M/exchanges/x/bindings/k'; ln -s ../../../../queues/q '$M/exchanges/x/bindings/k/q'"
	as 65534 bash -c "echo first >>'$M/queues/q/in'; echo second >>'$M/queues/q/in'; cat '$M/queues/q/next'" >/dev/null
	cd "$M/queues/q"
	local id
	id=$(ls unacked)
	as 1 bash -c "cat info ready/* unacked/* config/prefetch >/dev/null; ls -lR . ../../exchanges/x >/dev/null"
	forbidden EACCES 'echo x >>in'
	forbidden EACCES 'echo x >>head'
	forbidden EACCES 'echo x >put/f'
	forbidden EACCES 'cat next'
	forbidden EACCES 'cat take'
	forbidden EACCES 'cat consumers/c/stream'
	forbidden EACCES "echo $id >ack"
	forbidden EACCES "echo $id >nack"
	forbidden EACCES "echo $id >reject"
	forbidden EACCES 'echo x >session'
	forbidden EACCES 'echo all >purge'
	forbidden EACCES 'echo 1 >config/prefetch'
	forbidden EACCES 'rm ready/*'
	forbidden EACCES "mv unacked/$id ready/"
	forbidden EACCES 'mkdir consumers/mine'
	forbidden EACCES 'rmdir consumers/c'
	forbidden EPERM 'mv ../q ../mine'
	forbidden EPERM 'rmdir ../q'
	forbidden EPERM 'chmod 777 .'
	forbidden EPERM 'chown 1 in'
	cd "$M/exchanges/x"
	forbidden EACCES 'echo x >>keys/k'
	forbidden EACCES 'echo fanout >type'
	forbidden EACCES 'mkdir bindings/mine'
	forbidden EACCES 'ln -s ../../../../queues/q bindings/k/mine'
	forbidden EACCES 'rm bindings/k/q'
	forbidden EACCES 'rmdir bindings/k'
	forbidden EPERM 'mv ../x ../mine'
	is "$(as 65534 cat "$M/queues/q/next")" second
	cd /
	as 65534 rm "$M/exchanges/x/bindings/k/q"
	as 65534 rmdir "$M/exchanges/x/bindings/k" "$M/exchanges/x"
	as 65534 bash -c "echo all >'$M/queues/q/purge'; cat '$M/queues/q/ack' >/dev/null; rmdir '$M/queues/q'" || as 65534 rm -r "$M/queues/q" || true
	chmod 755 "$M/queues" "$M/exchanges"
}

# ------------------------------------------------------------------------------------------ what is shown

# harmless FILE - no control character but newline and tab, nothing that turns the direction of writing, and UTF-8
harmless() {
	python3 -c '
import re, sys
text = open(sys.argv[1], "rb").read().decode("utf-8")
assert text, "nothing in it"
bad = re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", text)
assert not bad, repr(text[max(0, bad.start() - 60):bad.end() + 20])
' "$1"
}

@test "names, keys and payloads that a terminal or a browser would act on are escaped in all that mqfs prints" {
	local name dirs=() override=$'\xe2\x80\xae' csi=$'\e[2J\e]0;title\a\xc2\x9b31m'
	for name in "rtl${override}gpj" 'quo"te' "apos'trophe" 'back\slash' '<script>alert(1)<' '&amp;' '$(reboot)' '{a="b"}'; do
		mkdir "$M/topics/$name" "$M/queues/$name" "$M/exchanges/$name" "$M/topics/$name/groups/$name"
		mkdir "$M/queues/$name/consumers/$name" "$M/exchanges/$name/bindings/k"
		ln -s "../../../../queues/$name" "$M/exchanges/$name/bindings/k/q"
		dirs+=("$M/topics/$name" "$M/topics/$name/groups/$name" "$M/queues/$name" "$M/exchanges/$name")
		printf '%s\n' "$csi$override" >>"$M/topics/$name/in"
		printf '%s\n' "$csi$override" >>"$M/queues/$name/in"
		printf 'x' >"$M/topics/$name/put/$name"
	done
	for name in $'esc\e[31m' $'bell\a' $'c1\xc2\x9b31m' $'bad\xff' $'new\nline'; do
		fails EINVAL mkdir "$M/topics/$name"
		fails EINVAL mkdir "$M/queues/$name"
		fails EINVAL mkdir "$M/exchanges/$name"
	done
	# Refusals that have what was written, or a name, in their sentence.
	cd "$M/topics/rtl${override}gpj"
	for name in "$csi$override" "{\"payload\":\"$csi\"}" "{\"$override\":1}"; do
		not t bash -c 'echo "$1" >>in.json' - "$name"
		not t bash -c 'echo "$1" >groups/*/ack' - "$name"
		not t bash -c 'echo "$1" >groups/*/offset' - "$name"
		not t bash -c 'echo "$1" >config/retention.ms' - "$name"
		t bash -c 'echo "$1" >"$2/config/dead.letter.to"' - "queues/$name" "$M/queues/quo\"te" || true # there need be none
		not t bash -c 'echo "$1" >"$2/config/alternate.exchange"' - "$name" "$M/exchanges/quo\"te"
	done
	cd "$M"
	mv "topics/rtl${override}gpj/groups/rtl${override}gpj" "topics/rtl${override}gpj/groups/again$override"
	local file
	for file in status/errors status/health status/version "${dirs[2]}/info" "${dirs[0]}/info" "${dirs[3]}/info"; do
		harmless "$file"
	done
	grep -q -F '\xe2\x80\xae' status/errors
	cat status/dashboard.html >"$BATS_TEST_TMPDIR/page"
	not grep -q -F '<script>alert' "$BATS_TEST_TMPDIR/page"
	grep -q -F '&lt;script&gt;alert' "$BATS_TEST_TMPDIR/page"
	not grep -q -P '[\x00-\x08\x0b-\x1f\x7f]' "$BATS_TEST_TMPDIR/page"
	# A label is the name itself: quoted, so that no name makes a label or a sample of its own. Nothing of a message is there.
	grep -q -F 'mqfs_topic_messages{topic="{a=\"b\"}"}' status/metrics
	grep -q -F 'mqfs_topic_messages{topic="back\\slash"}' status/metrics
	not grep -q -a -F "$csi" status/metrics
	cd /
	unmount
	"$(dirname "$MQFS_PROGRAM")/fsck.mqfs" --dump "$S" >"$BATS_TEST_TMPDIR/dump" 2>&1
	harmless "$BATS_TEST_TMPDIR/dump"
	grep -q -F 'rtl\xe2\x80\xaegpj' "$BATS_TEST_TMPDIR/dump"
	mount_store
}

# Else two names would be one, or end before the sentence does.
@test "status/errors and status/events show each character of a name that is not plain by its number" {
	fails EINVAL mkdir "$M/topics/"$'new\nline \e"q'
	tail -n 1 "$M/status/errors" | grep -F 'topics/new\x0aline \x1b\x22q: '
	cat "$M/status/events" >"$BATS_TEST_TMPDIR/events" 3>&- &
	blocked $!
	mkdir "$M/topics/quoted\"one"
	mv "$M/topics/quoted\"one" "$M/topics/quoted'two"
	eventually grep -F 'topics/quoted\x22one: created' "$BATS_TEST_TMPDIR/events"
	eventually grep -F 'topics/quoted\x27two: renamed from quoted\x22one' "$BATS_TEST_TMPDIR/events"
	kill $!
}

@test "a store or mount point whose name a terminal would act on is shown escaped by who cannot mount it" {
	local csi=$'\e[2J\xc2\x9b31m\xe2\x80\xae' args
	for args in "$BATS_TEST_TMPDIR/none/$csi $M" "$BATS_TEST_TMPDIR/store $BATS_TEST_TMPDIR/$csi" "$M/$csi/x $BATS_TEST_TMPDIR"; do
		# shellcheck disable=SC2086 # two words
		not t "$MQFS_PROGRAM" $args 2>"$BATS_TEST_TMPDIR/said" </dev/null
		grep -q '^mqfs: ' "$BATS_TEST_TMPDIR/said"
		is "$(tr -d '\40-\176\n' <"$BATS_TEST_TMPDIR/said")" ''
	done
}

# Sends messages with ids, from a number on, to the topics named, until it is refused; prints with what, and whether it sent more than 100,000.
FLOOD='
import errno, os, sys
sent, first = 0, int(sys.argv[1])
try:
    while True:
        for topic in sys.argv[2:]:
            fd = os.open(topic + "/in.json", os.O_WRONLY | os.O_APPEND)
            for part in range(10):
                lines = ["{\"payload\":\"\",\"id\":\"%x\"}\n" % (first + sent + i) for i in range(2000)]
                data = "".join(lines).encode()
                assert os.write(fd, data) == len(data) or os.write(fd, b"\n") # which says why
                sent += 2000
            os.close(fd)
except OSError as error:
    print(errno.errorcode[error.errno], sent > 100000)
'

@test "ids: who fills the memory for dedup.window.ms is refused; what another sent is known, and what he sends is taken" {
	topic
	local mine=$T theirs
	topic
	theirs=$T
	chmod 666 "$mine/in.json" "$theirs/in.json"
	echo 600000 >"$mine/config/dedup.window.ms"
	echo 600000 >"$theirs/config/dedup.window.ms"
	as 1 bash -c 'echo "{\"payload\":\"mine\",\"id\":\"a\"}" >>"$1/in.json"' - "$mine"
	is "$(as 65534 python3 -c "$FLOOD" 0 "$theirs" "$mine")" 'EDQUOT True'
	told EDQUOT 'of the user'
	is "$(as 65534 python3 -c "$FLOOD" 1000000000 "$mine")" 'EDQUOT False'
	as 1 bash -c 'for id in a b a b c; do echo "{\"payload\":\"$id\",\"id\":\"$id\"}" >>"$1/in.json" || exit; done' - "$mine"
	is "$(grep . "$mine/0/log" | tr '\n' ' ')" 'mine b c '
	as 65534 bash -c 'echo "{\"payload\":\"again\",\"id\":\"0\"}" >>"$1/in.json"' - "$theirs"
	not grep -q again "$theirs/0/log"
	echo all >"$theirs/purge"
	echo all >"$mine/purge"
	echo 0 >"$mine/config/dedup.window.ms"
	echo 0 >"$theirs/config/dedup.window.ms"
}

@test "status/errors: who is refused without end pushes out no line of another" {
	topic
	chmod 666 in.json
	as 1 bash -c 'echo "{}" >>in.json' 2>/dev/null || true
	local before
	before=$(grep -c ' uid=1 ' "$M/status/errors")
	as 65534 bash -c 'for ((i = 0; i < 600; i++)); do echo "{}" >>in.json; done' 2>/dev/null || true
	is "$(wc -l <"$M/status/errors")" 256
	is "$(grep -c ' uid=1 ' "$M/status/errors")" "$before"
	as 1 bash -c 'echo "{}" >>in.json' 2>/dev/null || true
	is "$(grep -c ' uid=1 ' "$M/status/errors") $(wc -l <"$M/status/errors")" "$((before + 1)) 256"
	[[ $(tail -n 1 "$M/status/errors") == *' EINVAL uid=1 '* ]]
	is "$(sort -c "$M/status/errors" 2>&1)" '' # by time
}
