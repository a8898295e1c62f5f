#!/usr/bin/env bats
# Every input of the corpus, given to its fuzz target: `make fuzz` looks for new ones.

@test "the targets take every input of their corpora" {
	cd "$BATS_TEST_DIRNAME/../.." || return
	found=0
	for source in tests/fuzz/fuzz_*.c; do
		name=$(basename "$source" .c)
		timeout 120 "${MQFS_BUILD:-build}/tests/fuzz/$name" "tests/fuzz/corpus/${name#fuzz_}"
		found=$((found + 1))
	done
	[ "$found" -ge 10 ]
}
