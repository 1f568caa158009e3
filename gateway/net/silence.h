/*
 * silence: calls that were opened and in which nothing ever came. Each is one of so many that a connection, or a service, may have at a
 * time, and a connection with a call is not idle. Methods know how long a request that has begun may take; of one that has not
 * they hear nothing at all. Looked at now and then, so that it costs nothing a call.
 */
#pragma once

struct h2;

#define SILENCE_LOOKS 5                  /* one behind the other at which nothing had come: then it ends, with DEADLINE_EXCEEDED */

/* A look at a server's calls. Not from inside an event of the connection. */
void silence_look(struct h2 *h2);
