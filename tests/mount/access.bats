# Owners and modes: real, kept, and enforced by the kernel.
load helpers

# as_other COMMAND... - as a user who owns nothing here, whose group has another number.
as_other() {
	t setpriv --reuid 65534 --regid 65533 --clear-groups -- "$@"
}

# other_fails ERRNO COMMAND...
other_fails() {
	local errno=$1
	shift
	fails "$errno" setpriv --reuid 65534 --regid 65533 --clear-groups -- "$@"
}

@test "by default others can look, and neither produce, consume, acknowledge, purge, set nor make" {
	topic
	group
	echo text >>in
	as_other cat 0/log >/dev/null
	as_other cat info groups/g/info config/retention.ms groups/g/offset >/dev/null
	as_other ls -lR . >/dev/null
	other_fails EACCES bash -c 'echo x >>in'
	other_fails EACCES cat groups/g/next
	other_fails EACCES cat groups/g/0/stream
	other_fails EACCES cat groups/g/out.json
	other_fails EACCES bash -c 'echo all >groups/g/ack'
	other_fails EACCES bash -c 'echo earliest >groups/g/offset'
	other_fails EACCES bash -c 'echo all >purge'
	other_fails EACCES bash -c 'echo all >0/purge'
	other_fails EACCES bash -c 'echo 1 >config/retention.ms'
	other_fails EACCES mkdir "$M/topics/theirs"
	other_fails EACCES mkdir groups/theirs
	other_fails EACCES mkdir 1
	other_fails EACCES rmdir groups/g
	other_fails EACCES mv groups/g groups/h
	other_fails EPERM chmod 777 in
	other_fails EPERM chown 65534 .
	is "$(stat -c %a groups/g/ack groups/g/.next purge in config/retention.ms | tr '\n' ' ')" '600 600 200 644 644 '
	is "$(cat groups/g/offset)" '0 0'
}

@test "chmod of in lets others produce, through all its framings, put/ and keys/; chmod a-w pauses all producers" {
	topic 2
	chmod 666 in
	as_other bash -c 'echo 1 >>in; echo 2 >>0/in; echo "{\"payload\":\"3\"}" >>in.json; printf "4\0" >>in.nul; echo 5 >>keys/k'
	as_other bash -c 'echo 6 >put/f'
	is "$(messages)" 6
	exec 5>>in
	chmod a-w in
	other_fails EACCES bash -c 'echo x >>in'
	other_fails EACCES bash -c 'echo x >>1/in'
	other_fails EACCES bash -c 'echo x >>in.json'
	other_fails EACCES bash -c 'echo x >>keys/k'
	other_fails EACCES bash -c 'echo x >put/f'
	is "$(stat -c %a in in.nul 0/in | sort -u)" 444
	exec 5>&-
	chmod u+w in
	is "$(messages)" 6
}

@test "the consuming files of a directory share owner and mode: changing one changes all, through the link as well" {
	topic
	group
	chmod 660 groups/g/ack
	is "$(stat -L -c %a groups/g/{next,wait,out,stream,ack,next.raw,out.json} | sort -u)" 660
	chmod 666 groups/g/next
	is "$(stat -L -c %a groups/g/{next,wait,out,stream,ack,next.raw,out.json} | sort -u)" 666
	chown 65534:65533 groups/g/stream
	is "$(stat -L -c %u:%g groups/g/{next,wait,out,stream,ack} | sort -u)" 65534:65533
	is "$(stat -c %u groups/g)" 0
	echo text >>in
	is "$(as_other cat groups/g/next)" text
	as_other bash -c 'echo all >groups/g/ack'
	is "$(cat groups/g/offset)" '0 1'
	chmod 600 groups/g/ack
	chown 0:0 groups/g/ack
	other_fails EACCES cat groups/g/next
	# Recursive changes do not follow links, and fail nowhere.
	t chmod -R g+rw groups/g
	t chown -R 65534 groups/g
	is "$(stat -L -c %u groups/g/{next,ack,offset,info} groups/g | sort -u)" 65534
}

@test "who makes an object owns it, and its mode is that of mkdir; modes of files follow" {
	chmod 1777 "$M/topics"
	as_other mkdir -m 770 "$M/topics/theirs"
	as_other mkdir -m 755 "$M/topics/public"
	chmod 755 "$M/topics"
	T=$M/topics/theirs
	cd "$M"
	is "$(stat -c '%u %g %a' "$T")" '65534 65533 770'
	is "$(stat -c '%u %a' "$T/in")" '65534 660'
	is "$(stat -c '%u %a' "$T/../public/in")" '65534 644'
	as_other mkdir "$T/groups/g"
	is "$(stat -c '%u %a' "$T/groups/g/ack")" '65534 600'
	as_other bash -c "echo mine >>$T/in; cat $T/groups/g/next; echo all >$T/groups/g/ack; echo 5 >$T/config/linger.ms; echo all >$T/purge"
	as_other chmod 700 "$T"
	fails EACCES setpriv --reuid 65530 --regid 65530 --clear-groups cat "$T/0/log"
	fails EACCES setpriv --reuid 65530 --regid 65530 --clear-groups bash -c "echo x >>$T/in"
	fails EACCES setpriv --reuid 65530 --regid 65530 --clear-groups rmdir "$T"
	fails EPERM setpriv --reuid 65530 --regid 65530 --clear-groups chmod 777 "$T"
	other_fails EACCES rmdir "$T"
	rmdir "$T"
}

@test "in a sticky topics/ users remove and rename their own topics only" {
	chmod 1777 "$M/topics"
	as_other mkdir "$M/topics/mine"
	t setpriv --reuid 65530 --regid 65530 --clear-groups mkdir "$M/topics/yours"
	other_fails EPERM rmdir "$M/topics/yours"
	other_fails EPERM mv "$M/topics/yours" "$M/topics/taken"
	as_other mv "$M/topics/mine" "$M/topics/mine2"
	as_other rmdir "$M/topics/mine2"
	rmdir "$M/topics/yours"
	chmod 755 "$M/topics"
}

@test "the umask counts as everywhere" {
	(umask 027 && mkdir "$M/topics/umask")
	is "$(stat -c %a "$M/topics/umask" "$M/topics/umask/in" | tr '\n' ' ')" '750 640 '
	rmdir "$M/topics/umask"
}

@test "group permission is enforced too" {
	topic
	chown :4321 in
	chmod 660 in
	t setpriv --reuid 65534 --regid 65534 --groups 4321 bash -c 'echo group >>in'
	other_fails EACCES bash -c 'echo x >>in'
	is "$(cat 0/log)" group
}

@test "owners and modes are kept over umount and kill -9" {
	topic 2
	group
	chmod 640 in
	chown 1001:1002 in
	chmod 751 .
	chown 1003:1004 .
	chmod 606 groups/g/out
	chmod 700 groups/g
	chmod 600 0/log
	chmod 444 config/retention.ms
	local before files=(. in in.json 0/in put keys groups/g groups/g/ack groups/g/.next.raw 0/log 1/log 1 config/retention.ms groups/g/0/ack)
	before=$(stat -c '%n %a %u:%g' "${files[@]}")
	remount
	is "$(stat -c '%n %a %u:%g' "${files[@]}")" "$before"
	crash
	is "$(stat -c '%n %a %u:%g' "${files[@]}")" "$before"
}

# make_all MODE NAME - one object of each kind, with a message in each place there is.
make_all() {
	cd "$M"
	mkdir -m "$1" "topics/$2" "queues/$2" "exchanges/$2"
	mkdir -m "$1" "topics/$2/groups/g" "topics/$2/groups/g/members/m" "queues/$2/consumers/c" "exchanges/$2/bindings/p"
	echo compact >"topics/$2/config/cleanup.policy"
	echo value >>"topics/$2/keys/k"
	ln -s "../../../../queues/$2" "exchanges/$2/bindings/p/b"
	seq 5 >>"queues/$2/in"
	cat "queues/$2/consumers/c/next" "queues/$2/next" >/dev/null
	set -- "queues/$2/dlq/ready" "queues/$2"/ready/*
	mv "$2" "$1"
	touch -d '+1 hour' "$3"
}

# look_at_all NAME FORMAT - stat(1) of all that is in these objects, once of each kind: of one priority, one setting, one of several dlq/.
# What consumes is looked at behind its link. Their name is shown as O, that of a message as ID.
look_at_all() {
	cd "$M"
	find {topics,queues,exchanges}/"$1" \( -path '*/priority/[1-9]' -o -path '*/config/?*' -o -path '*/groups/g/dlq/?*' \) -prune -o \
		\( ! -type l -o -path '*/bindings/*' \) -print >"$BATS_TEST_TMPDIR/paths"
	find {topics,queues,exchanges}/"$1" -path '*/groups/g/dlq' -prune -o -type l ! -path '*/bindings/*' ! -path '*/priority/*' -print |
		sed 's,[^/]*$,.&,' >>"$BATS_TEST_TMPDIR/paths"
	xargs stat -c "$2" <"$BATS_TEST_TMPDIR/paths" | sed -E "s,/$1(/| |\$),/O\\1,; s,/0{10}[0-9]*,/ID," | sort -u
}

# A file that is new in the tree is to be listed here.
@test "first modes of all files, and which is whose, by objects made with 755 and with 750" {
	make_all 755 all5
	make_all 750 all0
	look_at_all all5 '%n %a' >"$BATS_TEST_TMPDIR/all5"
	look_at_all all0 '%n %a' >"$BATS_TEST_TMPDIR/all0"
	join "$BATS_TEST_TMPDIR/all5" "$BATS_TEST_TMPDIR/all0" | awk '{ print $2, $3, $1 }' | sort >"$BATS_TEST_TMPDIR/modes"
	is "$(wc -l <"$BATS_TEST_TMPDIR/modes")" "$(wc -l <"$BATS_TEST_TMPDIR/all5")"
	awk '{ for (i = 3; i <= NF; i++) print $1, $2, $i }' <<-END | sort | diff - "$BATS_TEST_TMPDIR/modes"
		200 200 queues/O/dlq/purge queues/O/dlq/redrive queues/O/purge topics/O/0/purge topics/O/purge
		444 440 exchanges/O/info queues/O/dlq/info queues/O/info topics/O/0/at/0 topics/O/0/log topics/O/groups/g/info topics/O/info
		600 600 queues/O/.next queues/O/.out queues/O/.stream queues/O/.take queues/O/.wait queues/O/ack queues/O/consumers/c/.next
		600 600 queues/O/consumers/c/.out queues/O/consumers/c/.stream queues/O/consumers/c/.take queues/O/consumers/c/.wait
		600 600 queues/O/consumers/c/ack queues/O/consumers/c/nack queues/O/consumers/c/reject queues/O/consumers/c/session queues/O/dlq/.next
		600 600 queues/O/dlq/.out queues/O/dlq/.stream queues/O/dlq/.take queues/O/dlq/.wait queues/O/dlq/ack queues/O/dlq/nack
		600 600 queues/O/dlq/reject queues/O/nack queues/O/reject topics/O/groups/g/.next topics/O/groups/g/.out topics/O/groups/g/.stream
		600 600 topics/O/groups/g/.wait topics/O/groups/g/0/.next topics/O/groups/g/0/.out topics/O/groups/g/0/.stream topics/O/groups/g/0/.wait
		600 600 topics/O/groups/g/0/ack topics/O/groups/g/0/reject topics/O/groups/g/ack topics/O/groups/g/members/m/.next
		600 600 topics/O/groups/g/members/m/.out topics/O/groups/g/members/m/.stream topics/O/groups/g/members/m/.wait
		600 600 topics/O/groups/g/members/m/ack topics/O/groups/g/members/m/reject topics/O/groups/g/members/m/session topics/O/groups/g/reject
		644 640 exchanges/O/in.json exchanges/O/type queues/O/consumers/c/unacked/ID queues/O/delayed/ID queues/O/dlq/head queues/O/dlq/in
		644 640 queues/O/dlq/priority/0/in queues/O/dlq/priority/0/ready/ID queues/O/dlq/ready/ID queues/O/head queues/O/in queues/O/priority/0/in
		644 640 queues/O/priority/0/ready/ID queues/O/ready/ID queues/O/unacked/ID topics/O/0/in topics/O/groups/g/0/offset
		644 640 topics/O/groups/g/offset topics/O/in topics/O/keys/k
		755 750 exchanges/O exchanges/O/bindings exchanges/O/bindings/p exchanges/O/config exchanges/O/keys queues/O queues/O/config
		755 750 queues/O/consumers queues/O/consumers/c queues/O/consumers/c/config queues/O/consumers/c/unacked queues/O/delayed queues/O/dlq
		755 750 queues/O/dlq/config queues/O/dlq/consumers queues/O/dlq/delayed queues/O/dlq/priority queues/O/dlq/priority/0
		755 750 queues/O/dlq/priority/0/ready queues/O/dlq/put queues/O/dlq/ready queues/O/dlq/unacked queues/O/priority queues/O/priority/0
		755 750 queues/O/priority/0/ready queues/O/put queues/O/ready queues/O/unacked topics/O topics/O/0 topics/O/0/at topics/O/config
		755 750 topics/O/groups topics/O/groups/g topics/O/groups/g/0 topics/O/groups/g/config topics/O/groups/g/dlq topics/O/groups/g/members
		755 750 topics/O/groups/g/members/m topics/O/keys topics/O/put
		777 777 exchanges/O/bindings/p/b
	END
	rm "$M"/exchanges/all[05]/bindings/p/b
}

# modes FILE... - of each, in one line.
modes() {
	stat -c %a "$@" | tr '\n' ' '
}

@test "chmod keeps what means something: no execution of files, no setuid and setgid; who may read or write in may come into put/ and keys/" {
	topic
	chmod 6755 .
	is "$(modes .)" '755 '
	chmod 7777 .
	is "$(modes .)" '1777 '
	chmod 4777 in
	is "$(modes in put keys)" '666 777 777 '
	chmod 600 in
	is "$(modes in put keys)" '600 700 700 '
	chmod 624 in
	is "$(modes in put keys)" '624 735 735 '
	chmod 7755 put
	is "$(modes in put keys)" '644 755 755 '
	chmod 755 config/retention.ms info
	is "$(modes config/retention.ms info)" '644 644 '
}

@test "a file of put/ that waits is its maker's, with the mode it was made with" {
	topic
	chmod 666 in
	as_other bash -c 'umask 077; echo secret >put/.waits'
	is "$(stat -c '%u %g %a' put/.waits)" '65534 65533 600'
	fails EACCES setpriv --reuid 65530 --regid 65530 --clear-groups cat put/.waits
	fails EACCES setpriv --reuid 65530 --regid 65530 --clear-groups bash -c 'echo x >>put/.waits'
	fails EPERM setpriv --reuid 65530 --regid 65530 --clear-groups chmod 666 put/.waits
	fails EPERM setpriv --reuid 65530 --regid 65530 --clear-groups chown 65530 put/.waits
	as_other chmod 640 put/.waits
	is "$(stat -c '%u %g %a' put/.waits)" '65534 65533 640'
	as_other mv put/.waits put/done
	is "$(cat 0/log)" secret
}

@test "first modes of what is in the root, and of settings" {
	cd "$M"
	is "$(stat -c '%a %n' -- * status/* config/* | awk '{ a[$1] = a[$1] " " $2 } END { for (m in a) print m a[m] }' | sort)" "$(cat <<-END
		1777 tx
		444 README status/dashboard.html status/errors status/health status/metrics status/version
		755 config exchanges queues status topics config/exchanges config/groups config/queues config/topics config/tx
		777 status/events
	END
	)"
	is "$(stat -L -c '%a %u:%g' status/events config/*/* | sort | uniq -c | awk '{ print $2, $3 }' | tr '\n' ' ')" '444 0:0 644 0:0 '
	topic
	queue
	is "$(stat -c '%a %u:%g' "$T"/config/* "$Q"/config/* | sort -u)" '644 0:0'
}

# Each line: changing the owner of the first changes that of these, and of nothing else.
@test "what shares an owner: all that produces, all that consumes in one directory, messages and what holds them" {
	make_all 755 owned
	local file others
	while read -r file others; do
		chown 1001 "${file/\/O/\/owned}"
		is "$(look_at_all owned '%u %n' | sed -n 's/^1001 //p' | tr '\n' ' ')" "$(echo "$others" | tr ' ' '\n' | sort | tr '\n' ' ')"
		chown 0 "${file/\/O/\/owned}"
	done <<-END
		topics/O/in topics/O/0/in topics/O/in topics/O/keys topics/O/keys/k topics/O/put
		topics/O/0/log topics/O/0/at/0 topics/O/0/log
		topics/O/0/purge topics/O/0/purge
		topics/O/purge topics/O/purge
		topics/O/groups topics/O/groups
		topics/O/groups/g topics/O/groups/g
		topics/O/groups/g/ack topics/O/groups/g/.next topics/O/groups/g/.out topics/O/groups/g/.stream topics/O/groups/g/.wait topics/O/groups/g/ack topics/O/groups/g/reject
		topics/O/groups/g/offset topics/O/groups/g/offset
		topics/O/groups/g/0/ack topics/O/groups/g/0/.next topics/O/groups/g/0/.out topics/O/groups/g/0/.stream topics/O/groups/g/0/.wait topics/O/groups/g/0/ack topics/O/groups/g/0/reject
		topics/O/groups/g/0/offset topics/O/groups/g/0/offset
		topics/O/groups/g/members topics/O/groups/g/members
		topics/O/groups/g/members/m/ack topics/O/groups/g/members/m/.next topics/O/groups/g/members/m/.out topics/O/groups/g/members/m/.stream topics/O/groups/g/members/m/.wait topics/O/groups/g/members/m/ack topics/O/groups/g/members/m/reject topics/O/groups/g/members/m/session
		topics/O/groups/g/dlq topics/O/groups/g/dlq
		topics/O/info topics/O/info
		topics/O/0 topics/O/0
		queues/O queues/O queues/O/delayed/ID queues/O/priority/0/ready/ID queues/O/ready/ID queues/O/unacked/ID
		queues/O/in queues/O/head queues/O/in queues/O/priority/0/in queues/O/put
		queues/O/ready queues/O/priority/0/ready queues/O/ready
		queues/O/unacked queues/O/unacked
		queues/O/delayed queues/O/delayed
		queues/O/ack queues/O/.next queues/O/.out queues/O/.stream queues/O/.take queues/O/.wait queues/O/ack queues/O/nack queues/O/reject
		queues/O/consumers queues/O/consumers
		queues/O/consumers/c queues/O/consumers/c queues/O/consumers/c/unacked/ID
		queues/O/consumers/c/ack queues/O/consumers/c/.next queues/O/consumers/c/.out queues/O/consumers/c/.stream queues/O/consumers/c/.take queues/O/consumers/c/.wait queues/O/consumers/c/ack queues/O/consumers/c/nack queues/O/consumers/c/reject queues/O/consumers/c/session
		queues/O/consumers/c/unacked queues/O/consumers/c/unacked
		queues/O/purge queues/O/purge
		queues/O/priority queues/O/priority
		queues/O/priority/0 queues/O/priority/0
		queues/O/dlq queues/O/dlq queues/O/dlq/priority/0/ready/ID queues/O/dlq/ready/ID
		queues/O/dlq/in queues/O/dlq/head queues/O/dlq/in queues/O/dlq/priority/0/in queues/O/dlq/put
		queues/O/dlq/ack queues/O/dlq/.next queues/O/dlq/.out queues/O/dlq/.stream queues/O/dlq/.take queues/O/dlq/.wait queues/O/dlq/ack queues/O/dlq/nack queues/O/dlq/reject
		queues/O/dlq/ready queues/O/dlq/priority/0/ready queues/O/dlq/ready
		queues/O/dlq/redrive queues/O/dlq/redrive
		queues/O/dlq/purge queues/O/dlq/purge
		exchanges/O exchanges/O
		exchanges/O/in.json exchanges/O/in.json exchanges/O/keys
		exchanges/O/bindings exchanges/O/bindings exchanges/O/bindings/p exchanges/O/bindings/p/b
		exchanges/O/type exchanges/O/type
	END
	rm "$M/exchanges/owned/bindings/p/b"
}

# state_of_all - what another user could have changed.
state_of_all() {
	(cd "$M" && for f in queues/$1 queues/$1/dlq queues/$1/consumers/c exchanges/$1 topics/$1 topics/$1/groups/g; do
		[ ! -e "$f/info" ] || grep -v -e _ms -e synced "$f/info"
		ls -R "$f" | grep -v 'config'
	done
	cat "topics/$1/groups/g/offset" "exchanges/$1/type" "queues/$1/config/max.length")
}

@test "by default others change nothing of queues, their messages, members, exchanges and bindings, by any operation" {
	make_all 755 ours
	local before command id ready leased
	before=$(state_of_all ours)
	ready=$(basename "$M"/queues/ours/ready/*)
	leased=$(basename "$M"/queues/ours/consumers/c/unacked/*)
	chmod 1777 "$M/queues" "$M/tx"
	as_other bash -c "umask 0; mkdir $M/queues/theirs; mkdir $M/queues/theirs/consumers/c; echo theirs >>$M/queues/theirs/in"
	id=$(basename "$M"/queues/theirs/ready/*)
	while read -r errno command; do
		command=${command//READY/$ready} command=${command//LEASED/$leased}
		command=${command//THEIR/$id}
		echo "$command"
		other_fails "$errno" bash -c "cd $M/queues/ours && $command"
	done <<-'END'
		EACCES echo x >>in
		EACCES echo x >>head
		EACCES echo x >>in.json
		EACCES echo x >>priority/9/in
		EACCES echo x >put/f
		EACCES cat next
		EACCES cat take
		EACCES cat stream
		EACCES cat priority/../out.json
		EACCES echo LEASED >ack
		EACCES echo LEASED >nack
		EACCES echo LEASED >reject
		EACCES cat consumers/c/take
		EACCES echo all >consumers/c/ack
		EACCES echo all >consumers/c/nack
		EACCES echo all >consumers/c/reject
		EACCES exec 9>consumers/c/session
		EACCES exec 9<consumers/c/session
		EACCES rm ready/READY
		EACCES rm unacked/LEASED
		EACCES rm consumers/c/unacked/LEASED
		EACCES rm delayed/*
		EACCES rm dlq/ready/*
		EACCES mv ready/READY delayed/READY
		EACCES mv ready/READY ../theirs/ready/
		EACCES mv ready/READY ../theirs/consumers/c/unacked/
		EACCES mv priority/0/ready/READY priority/9/ready/
		EACCES mv consumers/c/unacked/LEASED ready/
		EACCES mv dlq/ready/* ready/
		EACCES mv ../theirs/ready/THEIR ready/
		EACCES mv ../theirs/ready/THEIR priority/9/ready/
		EACCES mv ../theirs/ready/THEIR consumers/c/unacked/
		EACCES mv ../theirs/ready/THEIR dlq/ready/
		EACCES touch -c unacked/LEASED
		EACCES touch -c ready/READY
		EPERM touch -c -d '+1 hour' ready/READY
		EPERM touch -c -d '+1 hour' consumers/c/unacked/LEASED
		EPERM chmod 666 ready
		EPERM chown 65534 ready
		EPERM chmod 666 ready/READY
		EACCES echo all >purge
		EACCES echo all >dlq/purge
		EACCES echo all >dlq/redrive
		EACCES echo 1 >config/max.length
		EACCES echo 1 >consumers/c/config/prefetch
		EACCES mkdir consumers/theirs
		EACCES rmdir consumers/c
		EACCES mv consumers/c consumers/d
		EPERM rmdir ../ours
		EPERM mv ../ours ../taken
		EACCES cat ../../topics/ours/groups/g/members/m/next
		EACCES echo all >../../topics/ours/groups/g/members/m/ack
		EACCES echo all >../../topics/ours/groups/g/members/m/reject
		EACCES echo all >../../topics/ours/groups/g/reject
		EACCES echo all >../../topics/ours/groups/g/0/ack
		EACCES echo all >../../topics/ours/groups/g/0/reject
		EACCES echo 1 >../../topics/ours/groups/g/0/offset
		EACCES exec 9>../../topics/ours/groups/g/members/m/session
		EACCES mkdir ../../topics/ours/groups/g/members/theirs
		EACCES rmdir ../../topics/ours/groups/g/members/m
		EACCES rm ../../topics/ours/keys/k
		EACCES echo x >>../../topics/ours/keys/k
		EACCES echo x >>../../exchanges/ours/keys/p
		EACCES echo x >>../../exchanges/ours/in.json
		EACCES echo fanout >../../exchanges/ours/type
		EACCES mkdir ../../exchanges/ours/bindings/q
		EACCES rmdir ../../exchanges/ours/bindings/p
		EACCES ln -s ../../../../queues/theirs ../../exchanges/ours/bindings/p/c
		EACCES rm ../../exchanges/ours/bindings/p/b
		EACCES mv ../../exchanges/ours/bindings/p/b ../../exchanges/ours/bindings/p/c
		EACCES ln -sfn ../../../../queues/theirs ../../exchanges/ours/bindings/p/b
		EPERM chown -h 65534 ../../exchanges/ours/bindings/p/b
		EACCES echo none >../../exchanges/ours/config/alternate.exchange
		EACCES mkdir ../../exchanges/theirs
		EACCES rmdir ../../exchanges/ours
		EACCES mv ../../exchanges/ours ../../exchanges/taken
		EACCES echo 1 >../../config/queues/max.length
		EACCES echo 1 >../../config/topics/retention.ms
		EACCES echo 5 >../../config/tx/tx.timeout.ms
	END
	is "$(state_of_all ours)" "$before"
	is "$(basename "$M"/queues/theirs/ready/*)" "$id"
	rm "$M/exchanges/ours/bindings/p/b"
	chmod 755 "$M/queues"
}

@test "a transaction is its maker's alone, and takes for each target what the target takes outside of it" {
	topic
	chmod 666 in
	local queue=$M/queues/not-theirs
	mkdir "$queue" "$M/tx/ours"
	echo ours >>"$M/tx/ours/queues/not-theirs/in"
	is "$(stat -c %a "$M/tx/ours" "$M/tx/ours/state" | tr '\n' ' ')" '700 600 '
	other_fails EACCES ls "$M/tx/ours"
	other_fails EACCES bash -c "echo commit >$M/tx/ours/state"
	other_fails EACCES bash -c "echo x >>$M/tx/ours/topics/${T##*/}/in"
	other_fails EPERM rmdir "$M/tx/ours"
	other_fails EPERM mv "$M/tx/ours" "$M/tx/taken"
	chmod 755 "$M/tx/ours" # who may come in may still not end it
	other_fails EACCES bash -c "echo commit >$M/tx/ours/state"
	other_fails EACCES bash -c "echo rollback >$M/tx/ours/state"
	other_fails EACCES cat "$M/tx/ours/state"
	as_other mkdir "$M/tx/theirs"
	X=$M/tx/theirs
	as_other bash -c "echo staged >>$X/topics/${T##*/}/in"
	other_fails EACCES bash -c "echo x >>$X/queues/not-theirs/in"
	other_fails EACCES bash -c "echo x >>$X/queues/not-theirs/head"
	other_fails EACCES bash -c "echo x >$X/queues/not-theirs/put/f"
	other_fails EACCES bash -c "echo all >$X/queues/not-theirs/ack"
	other_fails EPERM chmod 666 "$X/queues/not-theirs/in"
	fails EPERM chmod 666 "$X/queues/not-theirs/in"
	as_other bash -c "echo commit >$X/state"
	is "$(cat 0/log)" staged
	is "$(stat -c %s "$queue/ready")" 0
	is "$(cat "$M/tx/ours/state")" open
	echo commit >"$M/tx/ours/state"
	is "$(stat -c %s "$queue/ready")" 1
	as_other rmdir "$X"
	rmdir "$M/tx/ours"
}

@test "setuid, setgid and executing are of no use in a mount that is nosuid, nodev and noexec" {
	local options
	options=$(findmnt -n -o OPTIONS "$M")
	[[ ,$options, == *,nosuid,* && ,$options, == *,nodev,* && ,$options, == *,noexec,* ]]
	[[ ,$options, == *,default_permissions,* && ,$options, == *,allow_other,* ]]
}

@test "status: anyone may read health, version and metrics" {
	as_other cat "$M/status/health" "$M/status/version" "$M/status/metrics" "$M/README" >/dev/null
}
