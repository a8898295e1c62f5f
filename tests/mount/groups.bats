# Acknowledging, stored offsets, replay, and what happens to groups: ack, offset, purge, retention, renaming, deleting.
load helpers

ten() {
	topic "$1"
	group
	seq 0 9 >>0/in
}

read_some() {
	local i
	for ((i = 0; i < $1; i++)); do
		read -r _
	done
}

# lost GROUP - what its info says.
lost() {
	awk '$1 == "lost" { print $2 }' "$1/info"
}

# ------------------------------------------------------------------------- ack

@test "ack all: what was given, and no more" {
	ten
	is "$(cat groups/g/offset)" '0 0'
	echo all >groups/g/ack
	is "$(cat groups/g/offset)" '0 0'
	t cat groups/g/next >/dev/null
	echo all >groups/g/ack
	is "$(cat groups/g/offset)" '0 1'
	read_some 3 <groups/g/stream
	echo all >groups/g/ack
	is "$(cat groups/g/offset)" '0 4'
	t cat groups/g/out >/dev/null
	echo late >>in
	echo all >groups/g/ack
	is "$(cat groups/g/offset)" '0 10'
	is "$(t cat groups/g/out)" late
}

@test "ack PARTITION:OFFSET: that message and all before it" {
	ten 2
	seq 0 9 >>1/in
	t cat groups/g/out >/dev/null
	echo 0:3 >groups/g/ack
	is "$(cat groups/g/offset)" $'0 4\n1 0'
	printf '1:0\n0:4\n1:7\n' >groups/g/ack
	is "$(cat groups/g/offset)" $'0 5\n1 8'
	is "$(t cat groups/g/out)" $'5\n6\n7\n8\n9\n8\n9'
}

@test "ack in all ways a shell writes: >, >>, without newline, several lines, two writes of one line" {
	ten
	t cat groups/g/out >/dev/null
	echo 0:0 >>groups/g/ack
	printf 0:1 >groups/g/ack
	is "$(cat groups/g/offset)" '0 2'
	{ printf 0:; printf '3\n0'; printf :4; } >groups/g/ack
	is "$(cat groups/g/offset)" '0 5'
	echo all | tee groups/g/ack >/dev/null
	is "$(cat groups/g/offset)" '0 10'
}

@test "an ack that is refused: EALREADY below the stored offset, ERANGE beyond what was given, else EINVAL" {
	ten
	t cat groups/g/next >/dev/null
	echo all >groups/g/ack
	cd groups/g
	refused EALREADY 'offset 0' 'echo 0:0 >ack'
	t cat next >/dev/null
	refused ERANGE '' 'echo 0:2 >ack'
	refused ERANGE '' 'echo 0:10 >ack'
	refused ERANGE '' 'echo 0:1000000 >ack'
	local bad
	for bad in bogus '' 'all all' 'All' 0: :1 0:-1 -0:1 0:1x x:1 '0 1' 1 0:1:2 '0:0x1' '+0:1' '0:+1' ' ' '*' '0:1.0' 'next'; do
		refused EINVAL '' "printf '%s\n' '$bad' >ack"
	done
	refused EINVAL '' 'printf "all\0\n" >ack'
	refused EINVAL '' 'printf bogus >ack'
	refused EINVAL '' 'head -c 100000 /dev/zero >ack'
	run t bash -c 'echo 0:99999999999999999999 >ack'
	[[ $output == *"Invalid argument"* || $output == *"out of range"* ]]
	run t bash -c 'echo 7:0 >ack'
	[[ $output == *"Invalid argument"* || $output == *"No such file"* ]]
	is "$(cat offset)" '0 1'
}

@test "of several lines those before the bad one count" {
	ten
	t cat groups/g/out >/dev/null
	fails EINVAL sh -c "/usr/bin/printf '0:2\nbogus\n0:5\n' >groups/g/ack"
	is "$(cat groups/g/offset)" '0 3'
}

@test "ack of one partition, by all and by number" {
	ten 2
	seq 0 9 >>1/in
	t cat groups/g/out >/dev/null
	echo 1:4 >groups/g/1/ack
	is "$(cat groups/g/offset)" $'0 0\n1 5'
	echo all >groups/g/1/ack
	is "$(cat groups/g/offset)" $'0 0\n1 10'
	fails EINVAL sh -c '/usr/bin/printf "0:1\n" >groups/g/1/ack'
	is "$(cat groups/g/0/offset)" 0
}

@test "what another group acknowledges changes nothing here" {
	ten
	group h
	t cat groups/g/out >/dev/null
	echo all >groups/g/ack
	is "$(cat groups/h/offset)" '0 0'
	is "$(t cat groups/h/out | wc -l)" 10
	is "$(t cat groups/g/out | wc -l)" 0
}

# ------------------------------------------------------------------------- offset: replay

@test "offset takes lines of PARTITION OFFSET, earliest, latest and @UNIXTIME" {
	ten 2
	seq 0 9 >>1/in
	cd groups/g
	printf '0 3\n1 7\n' >offset
	is "$(cat offset)" $'0 3\n1 7'
	is "$(t cat out | tr '\n' ' ')" '3 4 5 6 7 8 9 7 8 9 '
	echo latest >offset
	is "$(cat offset)" $'0 10\n1 10'
	echo earliest >offset
	is "$(cat offset)" $'0 0\n1 0'
	echo "@$(($(date +%s) + 3600))" >offset
	is "$(cat offset)" $'0 10\n1 10'
	echo "@1000000000" >offset
	is "$(cat offset)" $'0 0\n1 0'
	echo '0 10' >offset
	is "$(cat offset)" $'0 10\n1 0'
	# What offset gives, it takes: a copy of it is a backup.
	cp offset "$BATS_TEST_TMPDIR/offset"
	echo earliest >offset
	cp "$BATS_TEST_TMPDIR/offset" offset
	is "$(cat offset)" $'0 10\n1 0'
}

@test "in a partition offset takes a number, earliest, latest, @UNIXTIME, +N and -N" {
	ten
	cd groups/g/0
	local pair
	for pair in 4/4 +3/7 -2/5 earliest/0 latest/10 -10/0 10/10 @0/0 +10/10; do
		echo "${pair%/*}" >offset
		is "$(cat offset)" "${pair#*/}"
	done
}

@test "@UNIXTIME finds the first message produced at or after that time" {
	topic
	group
	echo before >>in
	local now
	now=$(date +%s)
	eventually sh -c "[ \$(date +%s) -gt $now ]"
	echo after >>in
	cd groups/g
	echo "@$((now + 1))" >offset
	is "$(t cat next)" after
	echo "@$((now - 1))" >offset
	is "$(t cat next)" before
	echo "@$((now + 1))" >0/offset
	is "$(t cat next)" after
	echo "@$((now + 100))" >offset
	is "$(t cat next)" ''
}

@test "@UNIXTIME goes by the time at which messages were taken in, not by what a record says" {
	topic
	group
	local second
	for second in 1000 4000000000; do
		echo "{\"payload\":\"$second\",\"ts\":${second}000}" >>in.json
	done
	cd groups/g
	echo latest >offset
	echo @2000 >offset
	is "$(t cat next)" 1000
	echo "@$(($(date +%s) + 10))" >offset
	is "$(t cat next)" ''
}

@test "an offset that is refused changes nothing: ERANGE outside of what there is, else EINVAL" {
	ten
	cd groups/g
	echo '0 5' >offset
	local bad
	refused ERANGE '' 'echo 0 11 >offset'
	refused ERANGE '' 'echo 11 >0/offset'
	refused ERANGE '' 'echo +6 >0/offset'
	refused ERANGE '' 'echo -6 >0/offset'
	for bad in bogus '' '0 x' '0 -1' '0' '5' '0 1 2' '0:1' '@' '@x' 'EARLIEST' '0 1.5' '0x0 1'; do
		refused EINVAL '' "printf '%s\n' '$bad' >offset"
	done
	for bad in bogus '' '0 5' '@' '1.5' '++1' '0x5' '-' '+'; do
		refused EINVAL '' "printf '%s\n' '$bad' >0/offset"
	done
	run t bash -c 'echo 1 0 >offset'
	[[ $output == *"Invalid argument"* || $output == *"No such file"* ]]
	is "$(cat offset)" '0 5'
}

@test "reading again after a replay gives the same messages, and they must be acknowledged anew" {
	ten
	t cat groups/g/out >"$BATS_TEST_TMPDIR/first"
	echo all >groups/g/ack
	echo earliest >groups/g/offset
	echo all >groups/g/ack
	is "$(cat groups/g/offset)" '0 0'
	t cat groups/g/out | cmp - "$BATS_TEST_TMPDIR/first"
	echo all >groups/g/ack
	is "$(cat groups/g/offset)" '0 10'
}

@test "offset moves under an open stream, which goes on from there" {
	ten
	exec 5<groups/g/stream
	read -r m <&5
	is "$m" 0
	echo '0 8' >groups/g/offset
	timeout 30 head -n 2 <&5 >"$BATS_TEST_TMPDIR/got" || true
	exec 5<&-
	is "$(t cat groups/g/out | tr '\n' ' ')" '8 9 '
}

# ------------------------------------------------------------------------- lost messages

@test "purge before OFFSET overtakes a group, which goes on at the earliest message" {
	ten
	group late
	echo '0 7' >groups/late/offset
	echo 'before 4' >0/purge
	is "$(t cat groups/g/next)" 4
	is "$(cat groups/g/offset)" '0 4'
	is "$(t cat groups/late/next)" 7
	is "$(stat -c %s groups/g)" 6
	fails EALREADY sh -c '/usr/bin/printf "0:2\n" >groups/g/ack'
	fails ERANGE sh -c '/usr/bin/printf "0 3\n" >groups/g/offset'
}

@test "purge all empties partition or topic, offsets go on where they were" {
	ten 2
	seq 0 9 >>1/in
	echo all >1/purge
	is "$(messages)" 10
	echo all >purge
	is "$(messages) $(stat -c %s .)" '0 0'
	is "$(t cat groups/g/out)" ''
	echo new >>0/in
	is "$(jq .offset 0/log.json)" 10
	is "$(t cat groups/g/next)" new
}

@test "a purge that is refused changes nothing" {
	ten
	local bad
	for bad in bogus '' 'before' 'before x' 'before -1' 'all 1' 'ALL' 'before 1 2'; do
		refused EINVAL '' "printf '%s\n' '$bad' >0/purge"
	done
	refused EINVAL '' 'echo bogus >purge'
	refused ERANGE '' 'echo before 11 >0/purge'
	is "$(messages)" 10
}

@test "retention.bytes takes whole segments from the front; a group behind that is told of by lost" {
	topic
	group
	echo 4096 >config/segment.bytes
	local i
	for i in $(seq 1 40); do
		head -c 999 /dev/zero | tr '\0' "$((i % 10))" >>in
	done
	is "$(messages)" 40
	echo 10000 >config/retention.bytes
	eventually sh -c '[ $(stat -c %s 0) -lt 40 ]'
	local left lost
	left=$(messages)
	lost=$(lost groups/g)
	[ "$left" -ge 10 ] && [ "$left" -le 20 ] || { echo "$left are left"; return 1; }
	is "$((left + lost))" 40
	is "$(t cat groups/g/out | wc -l)" "$left"
	is "$(jq .offset groups/g/next.json)" "$lost"
	is "$(ls 0/at | head -n 1 | sed 's/^0*//')" "$lost"
}

@test "retention.ms takes what is older, and counts it as lost" {
	topic
	group
	echo 4096 >config/segment.bytes
	echo old >>in
	head -c 5000 /dev/zero | tr '\0' x >>in
	echo 1 >config/retention.ms
	eventually sh -c '! grep -q old 0/log'
	echo -1 >config/retention.ms
	echo new >>in
	is "$(tail -n 1 0/log)" new
	[ "$(lost groups/g)" -ge 1 ]
	t cat groups/g/out | cmp - 0/log
}

# ------------------------------------------------------------------------- the group itself

@test "a group is made by mkdir, renamed by mv with its offsets, deleted by rmdir at any time" {
	ten
	t cat groups/g/next >/dev/null
	echo all >groups/g/ack
	mv groups/g groups/h
	is "$(cat groups/h/offset)" '0 1'
	fails ENOENT cat groups/g/next
	fails EEXIST mkdir groups/h
	fails ENOENT rmdir groups/g
	rmdir groups/h
	is "$(ls groups)" ''
	group h
	is "$(cat groups/h/offset)" '0 0'
}

@test "who waits in a group that is deleted is told so: EIDRM" {
	topic
	local file
	for file in wait stream; do
		group
		cat groups/g/$file 2>"$BATS_TEST_TMPDIR/err" 3>&- &
		blocked $!
		rmdir groups/g
		not wait $! || { echo 'status 0'; return 1; }
		grep -q "$(errno_text EIDRM)" "$BATS_TEST_TMPDIR/err"
	done
}

@test "new partitions come to the group, from their beginning" {
	topic
	group
	mkdir 1
	echo one >>1/in
	is "$(cat groups/g/offset)" $'0 0\n1 0'
	is "$(t cat groups/g/next)" one
	is "$(ls -d groups/g/[0-9]*)" $'groups/g/0\ngroups/g/1'
}

@test "offsets and acks survive umount and kill -9" {
	ten
	echo 'before 2' >0/purge
	t head -n 3 groups/g/out >/dev/null 2>&1
	echo 0:3 >groups/g/ack
	remount
	is "$(cat groups/g/offset)" '0 4'
	is "$(t cat groups/g/next)" 4
	echo 0:4 >groups/g/ack
	crash
	is "$(cat groups/g/offset)" '0 5'
	is "$(t cat groups/g/next)" 5
	echo '0 9' >groups/g/offset
	crash
	is "$(cat groups/g/offset)" '0 9'
	is "$(t cat groups/g/out)" 9
}
