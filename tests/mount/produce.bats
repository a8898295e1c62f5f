# What shells and tools write to `in` and its kin: every way gives whole messages, and every refusal is told.
load helpers

# ------------------------------------------------------------------------- how shells write

check_redirections() {
	in_shell 'echo one >>in; echo two >in; : >in; : >>in; >in; echo three >>in; echo four >|in'
	log_is one two three four
}
@test "'>> in', '> in' and ': > in' all append and destroy nothing (bash, dash)" {
	each_shell check_redirections
}

check_builtins() {
	in_shell 'printf "a\nb\nc\n" >>in; /usr/bin/printf "d\ne\n" >>in; echo f >>in; cat >>in <<-END
		g
		h
	END'
	log_is a b c d e f g h
}
@test "echo, printf and here documents give the same messages (bash, dash)" {
	each_shell check_builtins
}

check_trailing_part() {
	in_shell 'printf foo >>in; printf "a\nb" >>in; { printf a; /bin/true; printf "b\n"; } >>in'
	log_is foo a b ab
	in_shell '{ printf 1; sh -c "printf 2"; (printf 3); printf 4 | cat; } >>in'
	log_is foo a b ab 1234
}
@test "a trailing part becomes a message at the last close, not when one of several holders ends (bash, dash)" {
	each_shell check_trailing_part
}

check_held_open() {
	in_shell 'exec 5>>in; printf half >&5; (exit 0); (printf " and" >&5); cat 0/log; exec 6>&5 5>&-; printf " half\n" >&6; cat 0/log' >"$BATS_TEST_TMPDIR/seen"
	is "$(cat "$BATS_TEST_TMPDIR/seen")" 'half and half'
}
@test "a descriptor that is held open collects a message from many processes (bash, dash)" {
	each_shell check_held_open
}

check_two_halves() {
	in_shell 'exec 5>>in 6>>in; printf a1 >&5; printf b1 >&6; echo a2 >&5; echo b2 >&6'
	log_is a1a2 b1b2
}
@test "two openings that write half lines in turn do not mix (bash, dash)" {
	each_shell check_two_halves
}

check_long_echo() {
	in_shell 'x=$(head -c 100000 /dev/zero | tr "\0" x); echo "$x" >>in'
	is "$(messages) $(wc -c <0/at/0)" '1 100000'
}
@test "an echo of 100,000 bytes is one message, in however many writes (bash, dash)" {
	each_shell check_long_echo
}

check_empty_lines() {
	in_shell 'printf "\n\nx\n" >>in; echo >>in'
	log_is '' '' x ''
}
@test "an empty line is an empty message, an opening without a write is none (bash, dash)" {
	each_shell check_empty_lines
}

check_killed_writer() {
	run in_shell 'exec 5>>in; printf "whole\nhalf" >&5; kill -KILL $$'
	run in_shell 'exec 5>>in; printf "whole\nhalf" >&5; kill -TERM $$; sleep 10'
	log_is whole whole
	in_shell 'echo next >>in'
	log_is whole whole next
}
@test "kill -9 and SIGTERM drop the half message of the writer and nothing else (bash, dash)" {
	each_shell check_killed_writer
}

check_killed_holder() {
	in_shell 'exec 5>>in; printf half >&5; sh -c "kill -9 \$\$" || :; echo " and half" >&5'
	in_shell 'exec 5>>in; sh -c "printf lost >&5; kill -9 \$\$" || :; echo kept >&5'
	in_shell 'timeout -s KILL 0.2 sh -c "printf lost; sleep 9" >>in; echo kept >>in' || true
	log_is 'half and half' kept kept
}
@test "a killed holder takes its own half with it and leaves that of the others (bash, dash)" {
	each_shell check_killed_holder
}

# What does not linger comes to the daemon write by write, which has the half messages itself then.
check_killed_direct() {
	echo 0 >config/linger.ms
	check_killed_writer
}
check_killed_holder_direct() {
	echo 0 >config/linger.ms
	check_killed_holder
	in_shell 'exec 5>>in; printf half >&5; sh -c "kill -9 \$\$" || :'
	log_is 'half and half' kept kept half
}
@test "a killed writer or holder takes its own half with it, also of what does not linger (bash, dash)" {
	each_shell check_killed_direct
	each_shell check_killed_holder_direct
}

check_exit_status() {
	run in_shell 'exec 5>>in; printf part >&5; exit 3'
	is "$status" 3
	log_is part
}
@test "a process that exits with an error has closed its files: its trailing part counts (bash, dash)" {
	each_shell check_exit_status
}

# ------------------------------------------------------------------------- what tools write

@test "every tool gives the same messages, wherever it cuts its writes" {
	seq 1 20000 >"$BATS_TEST_TMPDIR/lines"
	local tool
	for tool in 'cat lines >>in' 'seq 1 20000 >>in' 'tee -a in <lines >/dev/null' 'dd if=lines of=in bs=777 2>/dev/null' \
		'dd if=lines of=in bs=1M oflag=append conv=notrunc 2>/dev/null' 'awk "{print}" lines >>in' 'cp lines in' \
		'sed "" lines >>in' 'cat lines | cat >in' \
		'python3 -c "import sys; sys.stdout.writelines(open(\"lines\"))" >>in' 'cat <lines >/dev/stdout >>in'; do
		topic
		(cd "$BATS_TEST_TMPDIR" && ln -sfn "$T/in" in && t sh -c "$tool") || { echo "$tool: failed"; return 1; }
		cmp "$BATS_TEST_TMPDIR/lines" 0/log || { echo "$tool: differs"; return 1; }
	done
}

@test "the last line without a newline is a message too: half a write after head -c 50000 is completed by nobody" {
	topic
	seq 1 20000 | head -c 50000 >>in
	is "$(messages)" "$(seq 1 20000 | head -c 50000 | grep -c '')"
	is "$(tail -n 1 0/log)" "$(seq 1 20000 | head -c 50000 | tail -n 1)"
}

@test "python's logging and a long-lived writer: each record is there as soon as it is written" {
	topic
	t python3 -c '
import logging, sys
logging.basicConfig(filename="in", format="%(message)s", level=logging.INFO)
for i in range(5):
    logging.info("record %d", i)
    assert open("0/log").read().endswith("record %d\n" % i)
'
	is "$(messages)" 5
}

@test "carriage returns, NULs and bytes that are no UTF-8 come back as they went in" {
	topic
	printf 'a\r\nb\0c\n\377\376\n\t\n' >>in
	is "$(od -c <0/log)" "$(printf 'a\r\nb\0c\n\377\376\n\t\n' | od -c)"
	is "$(od -c <0/at/1)" "$(printf 'b\0c' | od -c)"
}

# ------------------------------------------------------------------------- framings

check_nul() {
	in_shell 'printf "a\nb\0c\0" >>in.nul; printf "last" >in.nul; printf "\0" >>in.nul'
	is "$(messages)" 4
	is "$(cat 0/at/0)" $'a\nb'
	is "$(cat 0/at/1)" c
	is "$(cat 0/at/2)" last
	is "$(wc -c <0/at/3)" 0
	is "$(od -c <0/log.nul)" "$(printf 'a\nb\0c\0last\0\0' | od -c)"
}
@test "in.nul: messages end in NUL, newlines are part of them, a trailing part counts at close (bash, dash)" {
	each_shell check_nul
}

@test "find -print0 and xargs -0 go through in.nul and out.nul" {
	topic
	group
	t find /usr/include/linux -name 'a*.h' -print0 >>in.nul
	is "$(t xargs -0 ls -d <groups/g/out.nul | sort)" "$(find /usr/include/linux -name 'a*.h' | sort)"
}

check_json() {
	in_shell 'echo "{\"payload\":\"text\"}" >>in.json
		echo "{\"payload\":\"with all\",\"key\":\"k\",\"headers\":{\"a\":\"b\",\"c\":\"d\"},\"id\":\"x1\",\"ts\":1732300000000}" >in.json
		printf "{\"payload_base64\":\"AP8K\"}" >>in.json'
	is "$(od -An -tx1 <0/at/2)" ' 00 ff 0a'
	is "$(cat 0/at/1)" 'with all'
	is "$(jq -c '[.key,.headers.a,.headers.c,.ts,.payload]' 0/at/1.json)" '["k","b","d",1732300000000,"with all"]'
	is "$(jq -c '[.topic,.partition,.offset,.uid,.payload]' 0/at/0.json)" "[\"${T##*/}\",0,0,0,\"text\"]"
}
@test "in.json: payload, payload_base64, key, headers, id and ts (bash, dash)" {
	each_shell check_json
}

@test "what out.json gives, in.json takes as it is, and the same messages come of it" {
	topic
	group
	printf '%s\n' plain '' 'quo"te\' 'ümläut €' $'tab\there' >>in
	printf '\377\0\n\201' >put/binary
	echo '{"payload":"p","key":"k","headers":{"h":"v","h2":""},"ts":1000}' >>in.json
	echo keyed >>'keys/a key'
	local first=$T
	t jq -e . groups/g/out.json >/dev/null
	topic
	group
	t cp "$first/groups/g/out.json" in.json
	is "$(jq -c 'del(.topic, .pid)' groups/g/out.json)" "$(jq -c 'del(.topic, .pid)' "$first/groups/g/out.json")"
	cmp "$first/0/log" 0/log
	is "$(jq -r 'select(.headers.filename) | .headers.filename' groups/g/out.json)" binary
}

@test "JSON strings: escapes, surrogate pairs and control characters are the bytes they stand for" {
	topic
	printf '%s\n' '{"payload":"a\n\t\"\\\/\u00e4\ud83d\ude00"}' >>in.json
	is "$(cat 0/at/0)" $'a\n\t"\\/ä😀'
	is "$(jq -r .payload 0/at/0.json)" $'a\n\t"\\/ä😀'
}

@test "in.json of a partition and a record that names its partition" {
	topic 3
	echo '{"payload":"by record","partition":2}' >>in.json
	echo '{"payload":"by file"}' >>1/in.json
	is "$(cat 2/log)" 'by record'
	is "$(cat 1/log)" 'by file'
	is "$(cat 0/log)" ''
}

@test "the kernel attests who produced: uid, gid and pid of who opened the channel" {
	topic
	chmod 666 in
	t setpriv --reuid 65534 --regid 65533 --clear-groups sh -c 'exec 5>>in; (exec sh -c "echo x >&5"); echo $$ >&5'
	is "$(jq -c '[.uid,.gid]' 0/at/0.json)" '[65534,65533]'
	is "$(jq -r .uid 0/at/1.json)" 65534
	# The fields of a record cannot claim another.
	echo '{"payload":"lie","uid":4711,"gid":4711}' >>in.json
	is "$(jq -r .uid 0/at/2.json)" 0
}

# ------------------------------------------------------------------------- keys and partitions

# Kafka's murmur2 of these keys, from its UtilsTest.
MURMUR2=(21 -973932308 foobar -790332482 a-little-bit-long-string -985981536 a-little-bit-longer-string -1486304829
	lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8 -58897971 abc 479470107)

check_keys() {
	local i key partition
	rmdir "$T" 2>/dev/null || true
	topic "$1"
	group
	for ((i = 0; i < ${#MURMUR2[@]}; i += 2)); do
		key=${MURMUR2[i]}
		partition=$(((MURMUR2[i + 1] & 0x7fffffff) % $1))
		printf '%s\n' "file $key" >>"keys/$key"
		printf '{"payload":"record %s","key":"%s"}\n' "$key" "$key" >>in.json
		is "$(grep -c -x -e "file $key" -e "record $key" $partition/log)" 2
	done
	is "$(messages)" 12
	is "$(jq -r 'select(.payload == "file foobar") | .key' groups/g/out.json)" foobar
}
@test "keys/KEY and records with a key go to the partition that Kafka's murmur2 says" {
	check_keys 2
	check_keys 7
	check_keys 100
}

@test "in keys/ every name is a key: in.json, spaces, quotes, 255 bytes; nothing is listed or read there" {
	topic
	group
	local key long
	long=$(printf '%0255d' 7)
	for key in in.json 'a b' "'\"" '*' 'ä' -n "$long" k.nul; do
		echo "v" >>"keys/$key"
		is "$(tail -n 1 0/log.json | jq -r .key)" "$key"
	done
	is "$(ls -A keys)" ''
	fails ENOENT cat keys/in.json
	fails ENAMETOOLONG sh -c "/usr/bin/printf x >keys/${long}8"
	is "$(messages)" 8
}

@test "without a key partitions are filled in turn, and a writer's messages stay in order within each" {
	topic 4
	local p
	for p in $(seq 1 80); do
		echo "$p" >>in
	done
	is "$(messages)" 80
	for p in 0 1 2 3; do
		[ -s $p/log ] || { echo "partition $p got nothing"; return 1; }
		sort -n -c $p/log
	done
	echo here >>3/in
	is "$(tail -n 1 3/log)" here
}

# ------------------------------------------------------------------------- confirms

@test "fsync in all its forms confirms: sync FILE, dd conv=fsync, O_SYNC and O_DSYNC" {
	topic
	echo one >>in
	t sync in
	t sync -d in
	echo two | t dd of=in conv=fsync,notrunc status=none
	echo three | t dd of=in oflag=sync,append conv=notrunc status=none
	echo four | t dd of=in oflag=dsync status=none
	t sync 0/in keys put . 0/log
	log_is one two three four
}

# synced TEXT - the trace shows that the daemon has synced a file of the store that holds this text: a segment, or the journal.
synced() {
	local file
	for file in $(grep -a -o -E '(fsync|fdatasync)\([0-9]+<[^>]*>' "$BATS_TEST_TMPDIR/trace" | sed 's/.*<//; s/>$//' | sort -u); do
		[[ $file != "$S"/* ]] || ! grep -q -F "$1" "$file" || return 0
	done
	return 1
}

@test "a confirm reaches the disk: what holds the message is synced before sync or an O_DSYNC write returns, and not without" {
	command -v strace >/dev/null || skip 'no strace'
	topic
	echo -1 >config/flush.ms
	echo -1 >config/flush.messages
	local needle="needle $BATS_TEST_NUMBER $RANDOM"
	strace -q -y -f -e trace=fsync,fdatasync -o "$BATS_TEST_TMPDIR/trace" -p "$(daemon_pid)" 3>&- &
	local strace=$!
	eventually grep -q 'TracerPid:.*[1-9]' "/proc/$(daemon_pid)/status" || skip 'strace may not trace'
	echo "$needle one" >>in
	not synced "$needle one"
	t sync in
	synced "$needle one"
	: >"$BATS_TEST_TMPDIR/trace"
	echo "$needle two" | t dd of=in oflag=dsync status=none
	synced "$needle two"
	kill $strace
	wait $strace || true
}

# ------------------------------------------------------------------------- refusals

@test "too long is EMSGSIZE, from the write itself where it does not linger" {
	topic
	echo 10 >config/max.message.bytes
	refused EMSGSIZE max.message.bytes 'echo 12345678901 >in'
	refused EMSGSIZE max.message.bytes 'printf "12345678901\0" >in.nul'
	refused EMSGSIZE 10 "echo '{\"payload\":\"12345678901\"}' >in.json"
	refused EMSGSIZE max.message.bytes 'echo 12345678901 >0/in'
	refused EMSGSIZE max.message.bytes 'echo 12345678901 >keys/k'
	refused EMSGSIZE max.message.bytes 'cat /usr/include/stdio.h >put/file'
	echo 1234567890 >in
	log_is 1234567890
	echo 0 >config/linger.ms
	refused EMSGSIZE max.message.bytes 'echo 12345678901 >>in'
	refused EMSGSIZE max.message.bytes 'printf "12345678901" >>in'
	log_is 1234567890
}

@test "the end of a message that was refused is no message: a long write that the kernel cuts, a full queue" {
	queue
	echo 1500000 >config/max.message.bytes
	timeout 60 python3 - 3>&- <<-'END'
		import errno, os
		def refused(fd, data, error):
		    try:
		        os.write(fd, data)
		    except OSError as e:
		        assert e.errno == error, e
		    else:
		        raise AssertionError("not refused")
		def take():
		    return open("take.raw", "rb").read()
		fd = os.open("in", os.O_WRONLY)
		data = memoryview(b"x" * 1500001 + b"\n")
		taken = os.write(fd, data)
		assert 0 < taken < len(data), taken
		refused(fd, data[taken:], errno.EMSGSIZE)
		assert os.write(fd, b"good\n") == 5
		assert (take(), take()) == (b"good", b"")
		with open("config/overflow", "w") as f:
		    f.write("reject-publish")
		with open("config/max.length", "w") as f:
		    f.write("1")
		for end, expected in (b"def\n", b"abcdef"), (b"ghi\n", b"ghi"):
		    os.write(fd, b"abc")
		    with open("in", "wb") as f:
		        f.write(b"full\n")
		    refused(fd, b"def\n", errno.EDQUOT)
		    assert take() == b"full"
		    os.write(fd, end)
		    assert (take(), take()) == (expected, b"")
		os.write(fd, b"abc")
		with open("in", "wb") as f:
		    f.write(b"full\n")
		refused(fd, b"def\n", errno.EDQUOT)
		assert take() == b"full"
		os.close(fd)
		assert take() == b""
	END
}

@test "what lingers and is too long is told of by fsync, close or status/errors, and good lines are kept" {
	topic
	echo 10 >config/max.message.bytes
	run t bash -c "printf 'one\n12345678901\n' >>in"
	eventually told EMSGSIZE max.message.bytes
	log_is one
}

@test "records of in.json that are refused: malformed ones EINVAL, partitions there are not, each with its reason" {
	topic 2
	local record
	refused EINVAL payload "echo '{}' >>in.json"
	refused EINVAL bogus "echo '{\"payload\":\"x\",\"bogus\":1}' >>in.json"
	for record in 'not json' '[]' '"text"' 'null' '{"payload":1}' '{"payload":null}' '{"payload":"x"' '{"payload":"x"} y' \
		'{"payload":"x","payload_base64":"eA=="}' '{"payload_base64":"***"}' '{"payload_base64":"eA="}' \
		'{"payload":"x","key":1}' '{"payload":"x","headers":[]}' '{"payload":"x","headers":{"a":1}}' '{"payload":"x","ts":"now"}' \
		'{"payload":"x","ts":1.5}' '{"payload":"x","partition":"0"}' '{"payload":"\ud800"}'; do
		refused EINVAL '' "printf '%s\n' '$record' >>in.json"
	done
	for record in '{"payload":"x","partition":2}' '{"payload":"x","partition":-1}' '{"payload":"x","ts":-5}' \
		'{"payload":"x","ts":99999999999999999999}' '{"payload":"x","priority":10}' '{"payload":"x","ttl_ms":-7}'; do
		refused ERANGE '' "printf '%s\n' '$record' >>in.json"
		refused ERANGE '' "printf %s '$record' >>in.json" # by the write, or bash would not see it
	done
	echo compact >config/cleanup.policy
	refused EINVAL 'needs a key' "printf %s '{\"payload\":\"x\"}' >>in.json"
	is "$(messages)" 0
	printf %s '{"payload":"x","key":"k","partition":1}' >>in.json
	is "$(cat 1/log)" x
}

check_good_ones_stay() {
	run in_shell 'printf "{\"payload\":\"one\"}\n{\"payload\":\"two\"}\nbad\n{\"payload\":\"three\"}\n" | cat >>in.json'
	[ "$status" != 0 ] || { echo 'succeeds'; return 1; }
	log_is one two
	told EINVAL ''
}
@test "a refused record does not take along the good ones before it (bash, dash)" {
	each_shell check_good_ones_stay
}

@test "a deleted topic is EIDRM for who still has it open (bash, dash)" {
	local shell
	for shell in $SHELLS; do
		topic
		cd /
		run t "$shell" -c "exec 5>$T/in; rmdir $T; echo x >&5"
		[ "$status" != 0 ] || { echo "$shell: status 0"; return 1; }
		told EIDRM ''
		[ "$shell" = dash ] || [[ $output == *"$(errno_text EIDRM)"* ]]
		topic
		cd /
		t "$shell" -c "exec 5>>$T/in; rmdir $T; echo lingers >&5" || true
		eventually told EIDRM ''
	done
}

@test "who may not write gets EACCES, from opening, and nothing is changed" {
	topic
	chmod 644 in
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '/usr/bin/printf x >in'
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'echo x >>in.json'
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'echo x >>0/in'
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'echo x >>keys/k'
	fails EACCES setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'echo x >>put/f'
	log_is
}

@test "in, log and the rest cannot be truncated or removed: EPERM; rm -r leaves the topic" {
	topic
	group
	echo kept >>in
	fails EPERM truncate -s 0 in
	fails EPERM truncate -s 0 0/log
	fails EPERM rm -f in
	fails EPERM rm -f 0/log
	fails EPERM rm -f groups/g/next
	fails EPERM rm -f config/retention.ms
	fails EPERM rm -rf 0
	log_is kept
	: >in
	t touch in
	log_is kept
}
