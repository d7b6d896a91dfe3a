/* Times, as from, to and at have them: what is read is written and read again
 * as the same. */
#include "tests/fuzz/fuzz.h"

#include "shared/clock.h"

#define YEAR_0 INT64_C(-62167219200000)
#define YEAR_9999_END INT64_C(253402300799999)
#define UNTOUCHED INT64_C(4711)

void
fuzz_start(void)
{
}

void
fuzz_one(char *text, size_t len)
{
	int64_t ms = UNTOUCHED, again = 0;
	char out[CLOCK_TEXT_SIZE];

	(void)len;
	if (!clock_parse(text, &ms)) {
		assert(ms == UNTOUCHED);
		return;
	}
	/* An offset may lead out of the years that have four digits. */
	assert(ms >= YEAR_0 - CLOCK_DAY && ms <= YEAR_9999_END + CLOCK_DAY);
	clock_text(ms, out);
	assert(strlen(out) == CLOCK_TEXT_SIZE - 1);
	assert(clock_parse(out, &again));
	assert(again == ms || ms < YEAR_0 || ms > YEAR_9999_END);
}
