# put/: a file created there is one message, whatever tool made it.
load helpers

# published FILE [NAME] - the last message is exactly the bytes of FILE, its header says NAME, and put/ is empty again.
published() {
	local last
	last=$(($(messages) - 1))
	cmp "$1" 0/at/$last || return
	is "$(jq -r .headers.filename 0/at/$last.json)" "${2:-${1##*/}}"
	is "$(ls -A put)" ''
}

# Something that looks like no line: all bytes, a NUL, no newline at the end, more than one request long.
make_binary() {
	cd "$BATS_TEST_TMPDIR"
	{ head -c 300000 /dev/urandom; printf '\0\n\377end'; } >binary
	cp binary other
	cd "$T"
	FILE=$BATS_TEST_TMPDIR/binary
}

# Runs a command that must succeed without a word.
quietly() {
	run t "$@"
	is "$status/$output" 0/
}

@test "cp, cp -p, cp -a, cat and dd" {
	topic
	make_binary
	quietly cp "$FILE" put/
	published "$FILE"
	quietly cp -p "$FILE" put/
	published "$FILE"
	quietly cp -a "$FILE" put/
	published "$FILE"
	quietly cp "$FILE" put/name
	published "$FILE" name
	t cat "$FILE" >put/by-cat
	published "$FILE" by-cat
	quietly dd if="$FILE" of=put/by-dd bs=999 status=none
	published "$FILE" by-dd
	quietly cp --preserve=all,xattr --sparse=never "$FILE" put/
	published "$FILE"
	is "$(messages)" 7
}

@test "mv from another file system, mv -f, mv -n, and within the mount" {
	topic
	make_binary
	local keep=$BATS_TEST_TMPDIR/keep
	cp "$FILE" "$keep"
	quietly mv "$FILE" put/
	[ ! -e "$FILE" ]
	published "$keep" binary
	cp "$keep" "$FILE"
	quietly mv -f "$FILE" put/
	published "$keep" binary
	cp "$keep" "$FILE"
	quietly mv -n "$FILE" put/renamed
	published "$keep" renamed
}

@test "install, tar x, cpio-like unpacking, rsync and scp-like temporary names" {
	topic
	make_binary
	quietly install -m 640 "$FILE" put/
	published "$FILE"
	quietly install -o 65534 -g 65534 -m 600 -p "$FILE" put/
	published "$FILE"
	tar -C "$BATS_TEST_TMPDIR" -cf "$BATS_TEST_TMPDIR/a.tar" binary
	quietly tar -C put -xf "$BATS_TEST_TMPDIR/a.tar"
	published "$FILE"
	quietly tar -C put -xpf "$BATS_TEST_TMPDIR/a.tar" --same-owner --xattrs --acls
	published "$FILE"
	# rsync writes .binary.XXXXXX and renames it.
	quietly rsync "$FILE" put/
	published "$FILE"
	quietly rsync -a "$FILE" put/
	published "$FILE"
	is "$(messages)" 6
}

@test "many files of one command are as many messages, in the order in which they were closed" {
	topic
	mkdir "$BATS_TEST_TMPDIR/many"
	local i
	for i in $(seq -w 0 99); do
		echo "file $i" >"$BATS_TEST_TMPDIR/many/$i"
	done
	quietly cp "$BATS_TEST_TMPDIR"/many/* put/
	is "$(messages)" 100
	is "$(cat 0/at/42)" 'file 42'
	is "$(jq -r .headers.filename 0/at/42.json)" 42
	is "$(ls -A put)" ''
	quietly rsync -a "$BATS_TEST_TMPDIR/many/" put/
	is "$(messages)" 200
}

check_shells() {
	in_shell 'printf "a\nb" >put/x; cat >put/y <<-END
		here
	END
	{ echo 1; sh -c "echo 2"; } >put/z'
	is "$(messages)" 3
	is "$(cat 0/at/0)" $'a\nb'
	is "$(cat 0/at/1)" here
	is "$(cat 0/at/2)" $'1\n2'
}
@test "redirections of shells: all that is written until the last close is one message (bash, dash)" {
	each_shell check_shells
}

check_same_name() {
	in_shell 'for i in 1 2 3; do echo "message $i" >put/same; done; echo more >>put/same; cat put/same 2>/dev/null || :'
	log_is 'message 1' '' 'message 2' '' 'message 3' '' more ''
}
@test "one process makes file after file of the same name: as many messages (bash, dash)" {
	each_shell check_same_name
	topic
	t python3 -c '
for i in range(3):
    with open("put/same", "w") as file:
        file.write("message %d" % i)
import os
for i in range(3):
    fd = os.open("put/same", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"by flags %d" % i)
    os.close(fd)
'
	log_is 'message 0' 'message 1' 'message 2' 'by flags 0' 'by flags 1' 'by flags 2'
}

@test "an empty file is an empty message; a file of a newline is a newline" {
	topic
	t cp /dev/null put/empty
	is "$(messages) $(stat -c %s 0/at/0)" '1 0'
	echo >put/newline
	is "$(stat -c %s 0/at/1)" 1
	is "$(od -An -c <0/at/1)" '  \n'
}

@test "next.raw gives the file back byte for byte, in plain framing with one newline more" {
	topic
	group
	make_binary
	t cp "$FILE" put/
	t cmp "$FILE" groups/g/next.raw
	t cmp "$FILE" <(t head -c -1 groups/g/next)
	t jq -r .payload_base64 groups/g/next.json | base64 -d | cmp - "$FILE"
	echo text >put/text
	echo all >groups/g/ack
	is "$(t jq -r .payload groups/g/next.json)" text
}

@test "a name that starts with a dot or ends in .tmp or .part waits for its rename" {
	topic
	local name
	for name in .hidden x.tmp y.part '.binary.Xy12ab'; do
		echo "waits $name" >"put/$name"
		is "$(messages)" 0
		is "$(ls -A put)" "$name"
		is "$(cat "put/$name")" "waits $name"
		rm "put/$name"
		is "$(ls -A put)" ''
	done
	echo one >put/.one
	mv put/.one put/one
	is "$(cat 0/log)" one
	is "$(jq -r .headers.filename 0/at/0.json)" one
	echo two >put/two.tmp
	mv -T put/two.tmp put/three.part
	is "$(messages)" 1
	mv -f put/three.part put/two
	is "$(cat 0/at/1)" two
	is "$(ls -A put)" ''
}

@test "a waiting file can be written on, and is published as it was when it was renamed" {
	topic
	echo one >put/.w
	echo two >>put/.w
	mv put/.w put/w
	is "$(cat 0/at/0)" $'one\ntwo'
}

@test "several writers of different names at once: each is one whole message" {
	topic
	local i
	for i in 1 2 3 4 5 6 7 8; do
		head -c 200000 /dev/zero | tr '\0' $i >"put/file$i" 3>&- &
	done
	wait
	is "$(messages)" 8
	is "$(cat 0/log | sort -u | cut -c 1 | tr -d '\n')" 12345678
	is "$(wc -c <0/log)" 1600008
}

check_appenders() {
	in_shell 'for w in 1 2 3 4; do (i=0; while [ $i -lt 100 ]; do echo "$w $i"; i=$((i + 1)); done >>put/.together) & done; wait'
	mv put/.together put/together
	is "$(wc -l <0/log)" 401 # and the empty line that ends the message
	for w in 1 2 3 4; do
		grep "^$w " 0/log | cut -d " " -f 2 | cmp - <(seq 0 99)
	done
}
@test "several who append to one file at once: no line is lost or torn, each one's are in order (bash, dash)" {
	each_shell check_appenders
}

# A message that its rename cannot produce: the name, and the file, are as before.
check_rename_refused() {
	echo 1 >config/max.length
	echo reject-publish >config/overflow
	in_shell 'printf waits >put/.name; echo full >>in'
	fails EDQUOT "$SHELL_NAME" -c 'mv put/.name put/name'
	told EDQUOT "is full"
	is "$(ls -A put)" .name
	is "$(cat put/.name)" waits
	t cat take >/dev/null
	in_shell 'mv put/.name put/name'
	is "$(t cat take.json | jq -r '.payload + " " + .headers.filename')" 'waits name'
	is "$(ls -A put)" ''
}
@test "a rename that a full queue refuses leaves the file under its name (bash, dash)" {
	each_shell_queue check_rename_refused
}

# The file is its maker's: another who has it open, and is killed, takes nothing along.
check_killed_beside() {
	in_shell 'exec 5>put/kept; printf one >&5; sh -c "printf \" two\" >&5; kill -9 \$\$" || :; printf " three" >&5'
	is "$(cat 0/log)" 'one two three'
}
@test "a killed process that was given the file by who made it leaves it (bash, dash)" {
	each_shell check_killed_beside
}

check_killed() {
	run in_shell 'exec 5>put/killed; echo half >&5; kill -KILL $$'
	run in_shell 'exec 5>put/killed; echo half >&5; kill -TERM $$; sleep 9'
	is "$(messages)" 0
	is "$(ls -A put)" ''
	in_shell 'echo whole >put/killed'
	is "$(cat 0/log)" whole
}
@test "what a killed process was writing is not published (bash, dash)" {
	each_shell check_killed
}

@test "size is checked at each write: EMSGSIZE, nothing is published, and nothing stays" {
	topic
	echo 1000 >config/max.message.bytes
	fails EMSGSIZE cp /usr/include/stdio.h put/
	told EMSGSIZE max.message.bytes
	is "$(messages)/$(ls -A put)" 0/
	fails EMSGSIZE dd if=/dev/zero of=put/x bs=100 count=11
	is "$(messages)/$(ls -A put)" 0/
	head -c 1000 /dev/zero >put/fits
	is "$(messages) $(stat -c %s 0/at/0)" '1 1000'
}

@test "names that cannot be: control characters, no UTF-8, editors' leavings, too long; directories, links and devices" {
	topic
	local name
	for name in $'a\nb' $'a\tb' $'a\x7f' $'\377' 'a~' x.swp .x.swp 4913; do
		run t touch "put/$name"
		[ "$status" != 0 ] || { printf 'accepted: %q\n' "$name"; return 1; }
	done
	fails ENAMETOOLONG touch "put/$(printf '%0256d' 0)"
	fails ENAMETOOLONG touch "put/$(printf '%0201d' 0)"
	run t mkdir put/dir
	[ "$status" != 0 ]
	run t ln -s x put/link
	[ "$status" != 0 ]
	run t mkfifo put/fifo
	[ "$status" != 0 ]
	run t ln 0/log put/hard
	[ "$status" != 0 ]
	is "$(messages)/$(ls -A put)" 0/
}

@test "sizes, times and modes of a file being written can be set and seen" {
	topic
	exec 5>put/.open
	printf 12345 >&5
	is "$(stat -c %s put/.open)" 5
	chmod 640 put/.open
	touch -d '2001-02-03 04:05:06 UTC' put/.open
	is "$(stat -c '%a %Y' put/.open)" '640 981173106'
	exec 5>&-
	rm put/.open
	is "$(messages)" 0
}

@test "writing at positions and truncating work in a file that is not published yet" {
	topic
	t dd if=/dev/zero of=put/.sparse bs=1 count=1 seek=9999 status=none
	is "$(stat -c %s put/.sparse)" 10000
	truncate -s 5 put/.sparse
	printf abc | t dd of=put/.sparse conv=notrunc status=none
	mv put/.sparse put/done
	is "$(od -An -c <0/at/0)" '   a   b   c  \0  \0'
}

@test "waiting files do not survive the daemon; published ones do" {
	topic
	echo waits >put/.w
	echo published >put/p
	crash
	is "$(ls -A put)" ''
	is "$(cat 0/log)" published
}
