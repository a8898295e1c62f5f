#!/usr/bin/env bats
# ARCHITECTURE.md and README.md name files and functions of the source: they are there.

setup() {
	cd "$BATS_TEST_DIRNAME/../.." || return
}

# What stands in backquotes, one a line, outside of fences.
quoted() {
	awk '/^```/{ fence = !fence; next } !fence' "$@" | grep -o '`[^`]*`' | tr -d '`' | sort -u
}

@test "the files that ARCHITECTURE.md and README.md name are there" {
	quoted ARCHITECTURE.md README.md | grep -E '^(fs|engine|mount-helpers|tests|\.ci)/' >"$BATS_TEST_TMPDIR/files"
	[ "$(wc -l <"$BATS_TEST_TMPDIR/files")" -gt 50 ]
	while read -r file; do
		compgen -G "$file" >/dev/null || { echo "there is no $file"; return 1; }
	done <"$BATS_TEST_TMPDIR/files"
}

@test "the functions that ARCHITECTURE.md names are there" {
	quoted ARCHITECTURE.md | grep -E '^[a-z_0-9]+\(\)$' | tr -d '()' >"$BATS_TEST_TMPDIR/functions"
	[ "$(wc -l <"$BATS_TEST_TMPDIR/functions")" -gt 30 ]
	while read -r name; do
		grep -qE "^([a-z].*[ *])?$name\(" fs/*.c engine/*.c || { echo "there is no function $name"; return 1; }
	done <"$BATS_TEST_TMPDIR/functions"
}

@test "every source file is in ARCHITECTURE.md, or its header is" {
	for file in fs/*.c engine/*.c; do
		case $file in engine/memory_*.c) continue ;; esac
		grep -qF -e "\`$file\`" -e "\`${file%.c}.h\`" ARCHITECTURE.md || { echo "ARCHITECTURE.md does not name $file"; return 1; }
	done
}
