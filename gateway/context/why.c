/* why: see why.h. */
#include "gateway/context/why.h"

#include <stdarg.h>
#include <stdio.h>

void why_write(struct why why, const char *path, const char *format, ...)
{
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (why.size)
		snprintf(why.text, why.size, "%s: %s", *path ? path : ".", text);
}
