/*
 * What a WebDAV client asks about the folders that it thinks its keys lie in (sccache: PROPFIND before each PUT, MKCOL where that finds
 * none; RFC 4918, 9.1 and 9.3). There are no folders: each is there.
 */
#include <stdlib.h>

#include "gateway/reapi/web.h"

#define FOLDER_BODY_NS 10000000000u      /* for a few lines of XML, which nobody reads */

/* No name of anything, and so nothing to escape. The time is one that clients insist on. */
static const char folder_text[] =
	"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/</D:href><D:propstat><D:prop>"
	"<D:resourcetype><D:collection/></D:resourcetype><D:getlastmodified>Thu, 01 Jan 1970 00:00:00 GMT</D:getlastmodified>"
	"</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>";

static void folder_fini(struct web *web)
{
}

static void folder_answer(struct web *web)
{
	if (web->put)
		web_answer(web, 201, NULL);
	else
		web_answer_typed(web, 207, "application/xml; charset=utf-8", folder_text);
}

static void folder_on_end(struct stream *stream)
{
	folder_answer(stream->owner);
}

static void folder_on_close(struct stream *stream, uint32_t code)
{
	web_closed(stream->owner);
}

static const struct stream_events folder_events = { .on_data = web_drop, .on_end = folder_on_end, .on_close = folder_on_close };

void web_folder(const struct web *from)
{
	struct web *web = calloc(1, sizeof(*web));

	if (!web) {
		web_refuse(from, 503, "the gateway has no memory for this; try again");
		return;
	}
	web_accept(web, from, &folder_events, folder_fini);
	web->ends_ns = ring_now_ns(web->reapi->cas->ring) + FOLDER_BODY_NS;
	if (web->sized && web->length == 0)
		folder_answer(web);
	else
		stream_consumed(web->stream, 0);         /* the body may come */
}
