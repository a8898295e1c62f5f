# Owners and modes: real, kept, and enforced by the kernel.
load helpers

# as_other COMMAND... - as a user who owns nothing here.
as_other() {
	t setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"
}

# other_fails ERRNO COMMAND...
other_fails() {
	local errno=$1
	shift
	fails "$errno" setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"
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
	is "$(stat -c '%u %g %a' "$T")" '65534 65534 770'
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

@test "setuid, setgid and executing are of no use in a mount that is nosuid, nodev and noexec" {
	local options
	options=$(findmnt -n -o OPTIONS "$M")
	[[ ,$options, == *,nosuid,* && ,$options, == *,nodev,* && ,$options, == *,noexec,* ]]
	[[ ,$options, == *,default_permissions,* && ,$options, == *,allow_other,* ]]
}

@test "status: anyone may read health, version and metrics" {
	as_other cat "$M/status/health" "$M/status/version" "$M/status/metrics" "$M/README" >/dev/null
}
