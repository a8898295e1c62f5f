# Settings: what config/ shows is in force, what is refused changes nothing, what is taken is kept.
load helpers

@test "a new topic and a new group have the defaults of the manual" {
	topic
	group
	local pair
	for pair in partitions=1 linger.ms=5 batch.size=262144 flush.messages=10000 flush.ms=1000 retention.ms=604800000 \
		retention.bytes=-1 segment.bytes=268435456 cleanup.policy=delete max.message.bytes=16777216; do
		is "$(cat "config/${pair%=*}")" "${pair#*=}"
		is "$(cat "$M/config/topics/${pair%=*}")" "${pair#*=}"
	done
	for pair in auto.commit=false auto.offset.reset=earliest max.poll.records=0; do
		is "$(cat "groups/g/config/${pair%=*}")" "${pair#*=}"
		is "$(cat "$M/config/groups/${pair%=*}")" "${pair#*=}"
	done
	is "$(stat -c %s config/linger.ms)" 2
}

check_ways() {
	in_shell 'echo 1234 >config/retention.ms; cat config/retention.ms
		printf 5678 >config/retention.ms; cat config/retention.ms
		echo 91011 >>config/retention.ms; cat config/retention.ms
		echo 12 | tee config/retention.ms' >"$BATS_TEST_TMPDIR/got"
	is "$(tr '\n' ' ' <"$BATS_TEST_TMPDIR/got")" '1234 5678 91011 12 '
	is "$(cat config/retention.ms)" 12
}
@test "a setting is written as shells write: >, >>, with or without newline, tee, cp (bash, dash)" {
	each_shell check_ways
	echo 77 >"$BATS_TEST_TMPDIR/value"
	cp "$BATS_TEST_TMPDIR/value" config/retention.ms
	is "$(cat config/retention.ms)" 77
}

@test "what is no value is EINVAL, in bash and dash, and the old value stays" {
	topic
	group
	echo 100000 >config/retention.ms
	local bad
	for bad in garbage '' 1x x1 0x10 1e3 1e400 1.5 '1 2' 1,000 10s 5m --1 - + true $'\xef\xbb\xbf5' '５' '$((1))' "'" NaN; do
		export BAD=$bad
		refused EINVAL retention.ms 'printf "%s\n" "$BAD" >config/retention.ms'
	done
	for bad in maybe 2 tru '' truefalse -1; do
		refused EINVAL auto.commit "printf '%s\n' '$bad' >groups/g/config/auto.commit"
	done
	refused EINVAL cleanup.policy 'echo shred >config/cleanup.policy'
	refused EINVAL auto.offset.reset 'echo none >groups/g/config/auto.offset.reset'
	refused EINVAL '' '/usr/bin/printf "5\0" >config/retention.ms'
	refused EINVAL '' '/usr/bin/printf "5\n6\n" >config/retention.ms'
	refused EINVAL '' 'head -c 1048576 /dev/zero >config/retention.ms'
	refused EINVAL '' 'head -c 1048576 /dev/zero | tr "\0" 1 >config/retention.ms' || refused ERANGE '' 'head -c 1048576 /dev/zero | tr "\0" 1 >config/retention.ms'
	is "$(cat config/retention.ms)" 100000
}

@test "what is out of range is ERANGE, and the old value stays" {
	topic
	group
	local pair
	for pair in retention.ms=-2 retention.ms=9223372036854775808 retention.ms=99999999999999999999999 linger.ms=-1 linger.ms=60001 batch.size=0 \
		flush.ms=-2 flush.messages=0 segment.bytes=4095 segment.bytes=2147483648 max.message.bytes=0 max.message.bytes=536870913 \
		partitions=0 partitions=1025 partitions=-1; do
		refused ERANGE "${pair%=*}" "echo ${pair#*=} >config/${pair%=*}"
	done
	refused ERANGE max.poll.records 'echo -1 >groups/g/config/max.poll.records'
	refused ERANGE linger.ms "echo -1 >$M/config/topics/linger.ms"
}

@test "blanks and line ends around a value do no harm; limits of -1 are taken" {
	topic
	printf '  4711 \r\n' >config/retention.ms
	is "$(cat config/retention.ms)" 4711
	echo -1 >config/retention.ms
	is "$(cat config/retention.ms)" -1
	echo 007 >config/retention.ms
	is "$(cat config/retention.ms)" 7
}

@test "partitions only grow" {
	topic 3
	refused EPERM '' 'echo 2 >config/partitions' || refused ERANGE '' 'echo 2 >config/partitions'
	echo 3 >config/partitions
	is "$(ls -d [0-9]* | wc -l)" 3
}

@test "unknown settings are not found and cannot be made; none can be removed" {
	topic
	fails ENOENT cat config/bogus
	run t touch config/bogus
	[ "$status" != 0 ]
	fails EPERM rm -f config/linger.ms
	fails ENOENT cat config/auto.commit
}

@test "a setting takes effect at once, for those who have the channel open as well" {
	topic
	exec 5>in
	echo 'twelve bytes' >&5
	echo 10 >config/max.message.bytes
	not bash -c 'echo "twelve bytes" >&5' 2>/dev/null
	echo 100 >config/max.message.bytes
	echo 'twelve bytes' >&5
	exec 5>&-
	log_is 'twelve bytes' 'twelve bytes'
}

@test "settings are kept over umount and kill -9" {
	topic
	group
	echo 4711 >config/retention.ms
	echo 17 >groups/g/config/max.poll.records
	echo 4 >config/partitions
	remount
	is "$(cat config/retention.ms groups/g/config/max.poll.records config/partitions | tr '\n' ' ')" '4711 17 4 '
	echo 4712 >config/retention.ms
	crash
	is "$(cat config/retention.ms)" 4712
}

@test "config/ at the root holds the defaults of new objects, and old ones keep theirs" {
	topic
	local old=$T
	echo 99 >"$M/config/topics/flush.ms"
	echo 2 >"$M/config/topics/partitions"
	echo 3 >"$M/config/groups/max.poll.records"
	topic
	group
	is "$(cat config/flush.ms groups/g/config/max.poll.records | tr '\n' ' ')" '99 3 '
	is "$(ls -d [0-9]* | tr '\n' ' ')" '0 1 '
	is "$(cat "$old/config/flush.ms")" 1000
	remount
	is "$(cat "$M/config/topics/flush.ms")" 99
	echo 1000 >"$M/config/topics/flush.ms"
	echo 1 >"$M/config/topics/partitions"
	echo 0 >"$M/config/groups/max.poll.records"
	is "$(cat config/flush.ms)" 99
}

@test "linger.ms 0 and 60000: who writes and then reads finds what it wrote, either way" {
	topic
	group
	local linger
	for linger in 0 60000; do
		echo $linger >config/linger.ms
		echo "after $linger" >>in
		is "$(tail -n 1 0/log)" "after $linger"
		is "$(t cat groups/g/out | tail -n 1)" "after $linger"
		exec 5>>in
		echo "open $linger" >&5
		is "$(tail -n 1 0/log)" "open $linger"
		is "$(stat -c %s .)" "$(grep -c '' 0/log)"
		exec 5>&-
	done
}
