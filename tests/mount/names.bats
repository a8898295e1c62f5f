# Names of objects: which there can be, what mkdir, mv and rmdir do, and that editors and typing errors make no junk.
load helpers

# refuses ERRNO NAME - as the name of a topic and of a group, new or by mv.
refuses() {
	local before
	before=$(ls -A "$M/topics" | wc -l)
	fails "$1" mkdir "$M/topics/$2"
	fails "$1" mkdir "$T/groups/$2"
	# mv words an EINVAL in its own way.
	fails "$1" mv -T "$T" "$M/topics/$2" >/dev/null || [[ $1 = EINVAL && $output == *'to a subdirectory of itself'* ]]
	is "$(ls -A "$M/topics" | wc -l)" "$before"
	is "$(ls -A "$T/groups")" ''
}

@test "names that are refused: control characters, leading dots, what editors leave behind, no UTF-8: EINVAL" {
	topic
	local name
	for name in $'new\nline' $'\t' $'esc\e[31m' $'del\x7f' ... .hidden .a .in 'backup~' '~' .x.swp x.swp 4913 $'\xff' $'\xc3' $'a\xed\xa0\x80' \
		$'\xc0\xaf' $'\x01'; do
		refuses EINVAL "$name"
	done
	told EINVAL ''
	# A name with a newline is one line of status/errors all the same.
	run t mkdir "$M/topics/"$'new\nline'
	is "$(tail -n 1 "$M/status/errors" | grep -c ' EINVAL .*new.*line')" 1
}

@test "names that are too long: ENAMETOOLONG from 201 bytes on, also far beyond what a path can be" {
	topic
	local length
	for length in 201 255 256 1024 4000; do
		refuses ENAMETOOLONG "$(printf "%0${length}d" 1)"
	done
	refuses ENAMETOOLONG "$(printf 'ä%.0s' $(seq 101))"
	mkdir "$M/topics/$(printf '%0200d' 1)"
	rmdir "$M/topics/$(printf '%0200d' 1)"
	mkdir "$M/topics/$(printf 'ä%.0s' $(seq 100))"
	rmdir "$M/topics/$(printf 'ä%.0s' $(seq 100))"
}

@test "names that look dangerous and are names: dashes, blanks, quotes, stars, dollars, case and Unicode twins" {
	local name count=0
	local names=(-rf --help 'two words' ' lead' 'trail ' "it's" '"' '*' '?' '[a]' '$(reboot)' '`x`' 'a;b' 'a&b' '|' '\' 'a\nb' '%s%n' '#' \
		'é' $'e\xcc\x81' $'\xe2\x80\xae'rtl A a 0 topics in config 'a.b' 'x.json' 'x.nul' '日本' '😀' con nul 'a:b' '@1' '!')
	for name in "${names[@]}"; do
		mkdir -- "$M/topics/$name"
		echo "$name" >>"$M/topics/$name/in"
		mkdir -- "$M/topics/$name/groups/$name"
		is "$(t cat -- "$M/topics/$name/groups/$name/next")" "$name"
	done
	remount
	for name in "$M"/topics/*; do
		name=${name##*/}
		[ -d "$M/topics/$name/groups/$name" ] || continue
		is "$(t cat -- "$M/topics/$name/groups/$name/next")" "$name"
		is "$(jq -r .topic "$M/topics/$name/0/log.json")" "$name"
		count=$((count + 1))
		echo all >"$M/topics/$name/purge"
		rmdir -- "$M/topics/$name"
	done
	is "$count" "${#names[@]}"
}

@test "a bad name is not found, and looking for it does no harm" {
	topic
	local name
	for name in $'a\nb' .hidden 'a~' $'\xff' "$(printf '%0255d' 1)"; do
		fails ENOENT ls "$M/topics/$name"
		fails ENOENT ls "$T/$name"
	done
}

@test "mkdir makes, mkdir again is EEXIST, mkdir -p is not, rmdir removes, rmdir again is ENOENT" {
	local name=$M/topics/made
	mkdir "$name"
	fails EEXIST mkdir "$name"
	mkdir -p "$name/groups/a"
	is "$(ls "$name/groups")" a
	fails ENOENT mkdir "$M/topics/none/groups"
	fails ENOENT mkdir "$M/topics/none/groups/g"
	rmdir "$name"
	fails ENOENT rmdir "$name"
}

@test "rmdir of a topic with messages is ENOTEMPTY; after a purge it goes, with its groups" {
	topic
	group
	echo x >>in
	cd /
	fails ENOTEMPTY rmdir "$T"
	told ENOTEMPTY ''
	echo all >"$T/purge"
	rmdir "$T"
	[ ! -e "$T" ]
}

@test "rm -r of a topic leaves the topic" {
	topic
	group
	echo x >>in
	run t rm -rf "$T"
	[ "$status" != 0 ]
	[ -e "$T/in" ]
	[ -d "$T/config" ]
	echo y >>in
	is "$(tail -n 1 0/log)" y
}

@test "mv renames with messages, settings, owner and groups; onto another, across directories or types it does not" {
	topic
	group
	echo kept >>in
	echo 12345 >config/retention.ms
	chmod 750 .
	local old=$T new=$M/topics/renamed-$BATS_TEST_NUMBER
	cd /
	mv "$old" "$new"
	[ ! -e "$old" ]
	is "$(cat "$new/0/log")" kept
	is "$(cat "$new/config/retention.ms")" 12345
	is "$(stat -c %a "$new")" 750
	is "$(t cat "$new/groups/g/next")" kept
	is "$(jq -r .topic "$new/0/log.json")" "${new##*/}"
	mkdir "$old"
	run t mv -T "$new" "$old"
	[ "$status" != 0 ]
	run t mv -T "$old" "$new"
	[ "$status" != 0 ]
	is "$(cat "$new/0/log")" kept
	fails EPERM mv "$old" "$M/config/"
	fails EPERM mv "$old" "$new/groups/"
	fails EPERM mv "$new/groups/g" "$old/groups/g2"
	run t mv "$new/in" "$new/out"
	[ "$status" != 0 ]
	run t mv "$new/0" "$new/5"
	[ "$status" != 0 ]
	run t mv "$old" /tmp/
	[ "$status" != 0 ]
	t mv -T "$new" "$new" || true
	is "$(cat "$new/0/log")" kept
}

@test "a renamed topic keeps its new name over a remount, and the old name is free" {
	topic
	echo first >>in
	local old=$T new=$T-new
	cd /
	mv "$old" "$new"
	mkdir "$old"
	echo second >>"$old/in"
	remount
	is "$(cat "$new/0/log" "$old/0/log")" $'first\nsecond'
}

@test "nothing but directories is made in topics/ and groups/, and nothing at all in a topic" {
	topic
	group
	local dir
	for dir in "$M" "$M/topics" "$T" "$T/0" "$T/0/at" "$T/groups" "$T/groups/g" "$T/config" "$M/config" "$M/status"; do
		run t touch "$dir/new"
		[ "$status" != 0 ] || { echo "touch in $dir"; return 1; }
		run t bash -c "echo x >$dir/new"
		[ "$status" != 0 ]
		run t ln -s x "$dir/link"
		[ "$status" != 0 ]
		run t ln "$T/info" "$dir/hard"
		[ "$status" != 0 ]
		run t mkfifo "$dir/fifo"
		[ "$status" != 0 ]
		run t mknod "$dir/dev" c 1 3
		[ "$status" != 0 ]
	done
	for dir in "$M" "$T" "$T/0" "$T/0/at" "$T/groups/g" "$T/config" "$M/config" "$M/status" "$T/keys" "$T/put"; do
		run t mkdir "$dir/new"
		[ "$status" != 0 ] || { echo "mkdir in $dir"; return 1; }
	done
	is "$(find "$M" -name new -o -name link -o -name hard -o -name fifo -o -name dev)" ''
	told EPERM ''
}

@test "sed -i, vim, touch, cp of a tree and patch leave no junk" {
	topic
	echo text >>in
	local before
	before=$(find "$M" | sort)
	run t sed -i s/x/y/ in
	run t sed -i s/x/y/ 0/log
	run t sed -i s/1/2/ config/retention.ms
	run t touch new
	run t touch in
	if command -v vim >/dev/null; then
		run t vim -n -es -u NONE -c 'normal ix' -c wq in </dev/null
		run t vim -es -u NONE -c 'normal ix' -c 'w!' -c 'q!' config/retention.ms </dev/null
	fi
	run t cp -r /usr/include/linux/can "$M/topics/"
	run t cp -r /usr/include/linux/can "$T/put/"
	run t tar -C "$T" -xf /dev/null
	rmdir "$M/topics/can" 2>/dev/null || true
	is "$(find "$M" | sort | grep -v -e /at/)" "$(printf '%s\n' "$before" | grep -v -e /at/)"
}

@test "partitions: mkdir N makes the next one only, rmdir of one is EPERM" {
	topic
	mkdir 1
	is "$(cat config/partitions)" 2
	fails EEXIST mkdir 0
	fails EINVAL mkdir 5
	fails EINVAL mkdir 02
	fails EINVAL mkdir 99999999999
	fails EPERM rmdir 1
	fails EPERM rmdir 0
	echo 4 >config/partitions
	is "$(ls -d [0-9]* | tr '\n' ' ')" '0 1 2 3 '
	fails ENOENT ls 4
	remount
	is "$(cat config/partitions)" 4
}

@test "a thousand topics: made, listed, used, removed" {
	cd "$M/topics"
	mkdir many{1..1000}
	is "$(ls -U | grep -c '^many')" 1000
	is "$(ls -l | grep -c many)" 1000
	local i
	for i in 1 500 1000; do
		echo $i >>many$i/in
		is "$(cat many$i/0/log)" $i
		echo all >many$i/purge
	done
	rmdir many{1..1000}
	is "$(ls | grep -c '^many')" 0
}
