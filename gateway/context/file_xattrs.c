/* Lists, sorts and reads xattrs. */
#include "gateway/context/file_xattrs.h"

#include "gateway/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

void file_xattrs_init(struct file_xattrs *xattrs)
{
	*xattrs = (struct file_xattrs){
		.names = buffer_heap(TREE_XATTR_BYTES_MAX),
		.values = buffer_heap(TREE_XATTR_BYTES_MAX),
	};
}

void file_xattrs_fini(struct file_xattrs *xattrs)
{
	buffer_fini(&xattrs->names);
	buffer_fini(&xattrs->values);
}

__attribute__((format(printf, 3, 4))) static int refuse(struct file_xattrs *xattrs, int r, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(xattrs->fault, sizeof(xattrs->fault), format, arguments);
	va_end(arguments);
	return ERR_RAISE(r);
}

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int take_value(struct file_xattrs *xattrs, int fd, struct tree_xattr *xattr)
{
	struct buffer *values = &xattrs->values;
	uint8_t *place = values->data + values->size;
	size_t room = TREE_XATTR_BYTES_MAX - values->size;
	ssize_t size = fgetxattr(fd, (const char *)xattr->name.data, place, room);

	if (size < 0 && errno == ENODATA)
		size = 0;                        /* removed meanwhile: its ctime tells */
	/* Asked with no room the kernel answers with the size alone. */
	if ((size < 0 && errno == ERANGE) || (size > 0 && (size_t)size > room))
		return refuse(xattrs, -E2BIG, "has more than %d bytes of xattrs", TREE_XATTR_BYTES_MAX);
	if (size < 0)
		return refuse(xattrs, -errno, "its xattr %s cannot be read: %s", (const char *)xattr->name.data,
		              err_text(errno));
	xattr->value = span_make(place, (size_t)size);
	values->size += (size_t)size;
	return 0;
}

static int take(struct file_xattrs *xattrs, int fd, const char *name)
{
	struct tree_xattr *xattr;

	if (has_prefix(name, "trusted.overlay.") || has_prefix(name, "user.overlay."))
		return refuse(xattrs, -EPERM, "has the xattr %s, which is refused", name);
	if (!has_prefix(name, "user."))
		return 0;
	if (!tree_xattr_name_valid(span_text(name)))
		return refuse(xattrs, -EINVAL, "has an xattr whose name is not UTF-8");
	if (xattrs->count == TREE_XATTRS_MAX)
		return refuse(xattrs, -E2BIG, "has more than %d xattrs", TREE_XATTRS_MAX);
	xattr = &xattrs->xattrs[xattrs->count++];
	xattr->name = span_text(name);
	return take_value(xattrs, fd, xattr);
}

static int check_bytes(struct file_xattrs *xattrs)
{
	size_t bytes = 0;

	for (size_t i = 0; i < xattrs->count; i++)
		bytes += xattrs->xattrs[i].name.size + xattrs->xattrs[i].value.size;
	if (bytes > TREE_XATTR_BYTES_MAX)
		return refuse(xattrs, -E2BIG, "has more than %d bytes of xattrs", TREE_XATTR_BYTES_MAX);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return span_compare(((const struct tree_xattr *)a)->name, ((const struct tree_xattr *)b)->name);
}

static bool reserve(struct file_xattrs *xattrs)
{
	buffer_clear(&xattrs->names);
	buffer_clear(&xattrs->values);
	return buffer_reserve(&xattrs->names, TREE_XATTR_BYTES_MAX) &&
	       buffer_reserve(&xattrs->values, TREE_XATTR_BYTES_MAX);
}

int file_xattrs_read(struct file_xattrs *xattrs, int fd)
{
	ssize_t size;
	int r = 0;

	xattrs->count = 0;
	if (!reserve(xattrs))
		return refuse(xattrs, -ENOMEM, "no memory for its xattrs");
	size = flistxattr(fd, (char *)xattrs->names.data, TREE_XATTR_BYTES_MAX);
	if (size < 0 && errno == ENOTSUP)
		size = 0;                        /* the file system knows of none */
	if (size < 0)
		return refuse(xattrs, -errno, "its xattrs cannot be listed: %s", err_text(errno));
	/* One NUL-terminated name after the other. */
	for (ssize_t at = 0; !r && at < size;) {
		const char *name = (const char *)xattrs->names.data + at;

		r = take(xattrs, fd, name);
		at += (ssize_t)strlen(name) + 1;
	}
	if (r)
		return r;
	qsort(xattrs->xattrs, xattrs->count, sizeof(xattrs->xattrs[0]), compare);
	return check_bytes(xattrs);
}
