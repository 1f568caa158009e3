/*
 * image: an image's JSON, and its /etc/passwd, from sections that NULs divide: index.json, passwd, and blobs, of which "@N" in a
 * section before it names the N-th section's digest. The image that the index names counts as unpacked, so that its configuration is
 * read. All is taken or refused with a sentence, and what is taken a container can be made of.
 */
#include "gateway/executor/image.h"

#include "chunker/sha256.h"
#include "fuzz/gateway/executor/scratch.h"
#include "proto/buffer.h"
#include "proto/digest.h"

#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECTIONS  8
#define UID_BASE  7
#define UID_COUNT 65536

enum { INDEX, PASSWD, BLOBS };

static char digests[SECTIONS][IMAGE_DIGEST_TEXT];        /* "": there is none */

static void name_section(size_t number, struct span text)
{
	struct digest digest = { .size = text.size };
	char hex[DIGEST_HEX_BYTES + 1] = "";

	sha256_once(text.data, text.size, digest.hash);
	digest_hex(&digest, hex);
	snprintf(digests[number], sizeof(digests[number]), "sha256:%.*s", DIGEST_HEX_BYTES, hex);
}

/* With digests for what stands for them. */
static struct buffer section_text(struct span section)
{
	struct buffer text = buffer_heap((section.size + 1) * IMAGE_DIGEST_TEXT);

	for (size_t i = 0; i < section.size; i++) {
		size_t number = i + 1 < section.size && section.data[i] == '@' ? (size_t)section.data[i + 1] - '0' : SECTIONS;

		if (number < SECTIONS && digests[number][0]) {
			buffer_put(&text, digests[number], strlen(digests[number]));
			i++;
		} else {
			buffer_put(&text, section.data + i, 1);
		}
	}
	REQUIRE(!text.failed);
	return text;
}

static void put_file(int top_fd, const char *path, struct span text)
{
	int fd = openat(top_fd, path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	REQUIRE(fd >= 0 && write(fd, text.data, text.size) == (ssize_t)text.size);
	close(fd);
}

static void put_section(int top_fd, size_t number, struct span section)
{
	static const char *const paths[] = { [INDEX] = "layout/index.json", [PASSWD] = "passwd" };
	struct buffer text = section_text(section);
	char path[128];

	if (number >= BLOBS) {
		name_section(number, buffer_span(&text));
		snprintf(path, sizeof(path), "layout/blobs/sha256/%s", digests[number] + strlen("sha256:"));
	}
	put_file(top_fd, number < BLOBS ? paths[number] : path, buffer_span(&text));
	buffer_fini(&text);
}

/* The last one first: what names another comes before it. */
static void put_sections(int top_fd, struct span data)
{
	struct span sections[SECTIONS] = { 0 };
	size_t count = 0;

	while (count < SECTIONS) {
		const uint8_t *nul = data.size ? memchr(data.data, 0, data.size) : NULL;
		size_t size = nul ? (size_t)(nul - data.data) : data.size;

		sections[count++] = span_make(data.data, size);
		if (!nul)
			break;
		data = span_make(nul + 1, data.size - size - 1);
	}
	memset(digests, 0, sizeof(digests));
	while (count--)
		put_section(top_fd, count, sections[count]);
}

static void make_directories(int top_fd)
{
	static const char *const paths[] = { "layout", "layout/blobs", "layout/blobs/sha256", "cache" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		REQUIRE(mkdirat(top_fd, paths[i], 0700) == 0);
}

/* False: the index names what no image can be called. */
static bool make_unpacked(int top_fd, const char *digest)
{
	struct digest parsed;
	char path[128], inner[160];

	if (strncmp(digest, "sha256:", 7) != 0 || strlen(digest) != 7 + DIGEST_HEX_BYTES ||
	    !digest_from_hex(&parsed, span_make(digest + 7, DIGEST_HEX_BYTES)))
		return false;
	snprintf(path, sizeof(path), "cache/%s-%u", digest + 7, UID_BASE);
	REQUIRE(mkdirat(top_fd, path, 0700) == 0);
	snprintf(inner, sizeof(inner), "%s/rootfs", path);
	REQUIRE(mkdirat(top_fd, inner, 0700) == 0);
	snprintf(inner, sizeof(inner), "%s/rootfs/etc", path);
	REQUIRE(mkdirat(top_fd, inner, 0700) == 0);
	snprintf(inner, sizeof(inner), "%s/rootfs/etc/passwd", path);
	(void)linkat(top_fd, "passwd", top_fd, inner, 0);
	snprintf(inner, sizeof(inner), "%s/rootfs/etc/group", path);
	(void)linkat(top_fd, "passwd", top_fd, inner, 0);
	return true;
}

static void open_image(const char *layout, const char *digest)
{
	struct image_options options = { .layout = layout, .uid_base = UID_BASE, .uid_count = UID_COUNT };
	char cache[300], why[512] = "";
	struct image image;
	int r;

	snprintf(cache, sizeof(cache), "%s/cache", scratch_path);
	options.cache = cache;
	r = image_open(&image, &options, why, sizeof(why));
	REQUIRE(r <= 0 && (r == 0) == !*why);
	if (r)
		return;
	REQUIRE(strcmp(image.digest, digest) == 0 && (!*image.cwd || *image.cwd == '/'));
	REQUIRE(image.uid < UID_COUNT && image.gid < UID_COUNT);
	for (char **variable = image.env; *variable; variable++)
		REQUIRE(strchr(*variable, '='));
	image_fini(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char layout[300], digest[IMAGE_DIGEST_TEXT], why[512] = "";
	int top_fd = scratch_open(), r;

	make_directories(top_fd);
	put_sections(top_fd, span_make(data, size));
	snprintf(layout, sizeof(layout), "%s/layout", scratch_path);
	r = image_digest(layout, digest, why, sizeof(why));
	REQUIRE(r <= 0 && (r == 0) == !*why);
	if (r == 0 && make_unpacked(top_fd, digest))
		open_image(layout, digest);
	return 0;
}
