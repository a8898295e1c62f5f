/* Bytes that grow, and a failure that sticks. */
#include "fs/buffer.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

/* Whatever is added stands behind what was there. */
Test(buffer, adds)
{
	struct buffer buf = BUFFER_INIT;
	buffer_add_text(&buf, "text ");
	buffer_add_u64(&buf, 0);
	buffer_add_char(&buf, ' ');
	buffer_add_u64(&buf, UINT64_MAX);
	buffer_add_char(&buf, ' ');
	buffer_add_i64(&buf, INT64_MIN);
	buffer_printf(&buf, " %s-%d", "x", 7);
	buffer_add(&buf, "", 1);
	cr_expect_str_eq(buf.ptr, "text 0 18446744073709551615 -9223372036854775808 x-7");
	cr_expect_eq(buf.len, strlen(buf.ptr) + 1);
	cr_expect_eq(buffer_error(&buf), 0);
	buffer_release(&buf);
	cr_expect(!buf.ptr && buf.len == 0 && buf.cap == 0);
}

/* Growing keeps what is there, byte for byte. */
Test(buffer, grows)
{
	struct buffer buf = BUFFER_INIT;
	for (int i = 0; i < 100000; i++)
		buffer_add_char(&buf, (char)(i % 251));
	cr_assert_eq(buf.len, 100000);
	for (int i = 0; i < 100000; i++)
		cr_assert_eq(buf.ptr[i], (char)(i % 251));
	buffer_release(&buf);
}

/* After a failure nothing is added any more, what was there stays, and clearing makes it good again. */
Test(buffer, failure_sticks)
{
	struct buffer buf = BUFFER_INIT;
	buffer_add_text(&buf, "kept");
	cr_expect_null(buffer_room(&buf, SIZE_MAX));
	cr_expect_null(buffer_room(&buf, 1));
	buffer_add_text(&buf, "lost");
	cr_expect_eq(buffer_error(&buf), -ENOMEM);
	cr_expect(buf.len == 4 && memcmp(buf.ptr, "kept", 4) == 0);
	buffer_clear(&buf);
	buffer_add_text(&buf, "new");
	cr_expect_eq(buffer_error(&buf), 0);
	cr_expect(buf.len == 3 && memcmp(buf.ptr, "new", 3) == 0);
	buffer_release(&buf);
}

/* What was made room for and not used is given back; bytes stay, and more can be added. */
Test(buffer, fit)
{
	struct buffer buf = BUFFER_INIT;

	buffer_fit(&buf);
	cr_assert(buf.ptr == NULL && buf.cap == 0);
	cr_assert_not_null(buffer_room(&buf, 1 << 20));
	buffer_add_text(&buf, "some");
	buffer_fit(&buf);
	cr_assert(buf.cap == 4 && buf.len == 4);
	buffer_add_text(&buf, " more");
	cr_assert(buf.len == 9 && memcmp(buf.ptr, "some more", 9) == 0 && buffer_error(&buf) == 0);
	buffer_release(&buf);
}
