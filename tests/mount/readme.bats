# What README.md shows is what happens.
load helpers

# The fenced lines of the tour, of the mount of this test.
tour() {
	awk '/^## /{ tour = /^## A tour/ } /^```/{ fence = !fence; next } tour && fence' "$BATS_TEST_DIRNAME/../../README.md" |
		sed "s,^\$ cd /mq\$,\$ cd $M,"
}

check_tour() {
	tour >"$BATS_TEST_TMPDIR/expected"
	[ "$(grep -c '^\$ ' "$BATS_TEST_TMPDIR/expected")" -gt 20 ]
	# Each command is printed as the README has it, and run.
	sed -n "s/^\$ \(.*\)/cat <<'END'\n\$ \1\nEND\n\1/p" "$BATS_TEST_TMPDIR/expected" >"$BATS_TEST_TMPDIR/script"
	in_shell ". $BATS_TEST_TMPDIR/script" >"$BATS_TEST_TMPDIR/got"
	diff "$BATS_TEST_TMPDIR/expected" "$BATS_TEST_TMPDIR/got"
	[ -z "$(ls -A "$M/topics" | grep -v '^test-')" ]
}
@test "the tour of the README prints what it says (bash, dash)" {
	each_shell check_tour
}
