/*
 * asker: one Context/Give call, as the gateway makes it: asks an edge for a context's root, makes sure that all of it is
 * here for this tenant, and has the edge push again what the store has lost.
 *
 *	KNOWN -> ASKED -> CHECKING -> READY              any -> FAILED
 *	           ^       |    ^       |
 *	           '-holes-'    '-------' asker_repair()
 *
 * A root is believed when the closure walk finds it whole for the scope, whatever the edge says; it is held from before the
 * walk on, so that what was found stays.
 *
 * On the ring's thread. Events come from inside the call's events or from the loop, never from a call of this header.
 * Source: proto/sluice.v1.proto, service Context.
 */
#pragma once

#include "gateway/broker/packet_queue.h"
#include "gateway/cas/cas.h"
#include "gateway/cas/closure.h"
#include "proto/call.h"
#include "proto/sluice_context.h"
#include "proto/sluice_v1.h"

#define ASKER_REPAIRS_MAX 16             /* times that an edge is asked to push again, a call */

struct asker;

struct asker_events {
	/* The root is here, whole and held: first, or again after asker_repair(). */
	void (*on_root)(struct asker *asker);
	/* Ahead of the root: an entry list, empty behind the last; and a name list. Borrowed. Only when they were asked for. */
	void (*on_entries)(struct asker *asker, struct span entries);
	void (*on_named)(struct asker *asker, struct span names);
	/*
	 * Ahead of the root: asker->same entries from the front are those of the root that was known, which is held as a whole; more
	 * each time. Only when it was asked for.
	 */
	void (*on_same)(struct asker *asker);
	/* A time list, behind the first root that the edge told; borrowed. */
	void (*on_times)(struct asker *asker, struct span times);
	/*
	 * It will not come any further: the context is unfit, the edge or its connection failed, or the store. Once. What was
	 * told whole before stays so.
	 */
	void (*on_failed)(struct asker *asker, const char *why);
	/* Last: the call has ended and nothing is under way. */
	void (*on_closed)(struct asker *asker);
};

enum asker_state {
	ASKER_KNOWN,                     /* is the root that was known still whole? */
	ASKER_ASKED,                     /* the edge's root is awaited */
	ASKER_CHECKING,                  /* it is looked at whether it is whole */
	ASKER_READY,
	ASKER_FAILED,
};

struct asker_config {
	struct cas *cas;
	struct scope scope;
	const struct asker_events *events;
	struct h2 *edge;
	const struct header *metadata;   /* of the DiffCopy call; stays until on_closed */
	size_t metadata_count;
	const struct digest *known;      /* the root that was played last; NULL: none is known */
	bool times;                      /* those of all entries are wanted */
	bool ahead;                      /* entries and names may come before the root */
	bool same;                       /* with `known`: how far they are the same may come before the root */
};

struct asker {
	enum asker_state state;
	struct context_root told;        /* what the edge said of its root; not its spans */
	struct digest root;              /* from ASKER_CHECKING on */
	uint32_t same;                   /* entries that are the known root's, so far */
	/* The rest is the asker's. */
	struct asker_config config;
	struct call call;
	struct packet_queue requests;    /* that wait for the call's room */
	struct store_marks marks;
	bool known_whole, ahead;         /* ahead: was asked for */
	struct store_hold *hold;         /* of `root` */
	struct store_hold *hold_known;   /* of the known one, once it was asked how far it is the same; NULL: it was not */
	struct closure closure;
	bool looking, checking;          /* `marks`, `closure` are under way */
	bool checked;                    /* the closure's answer waits for the turn */
	bool ending;                     /* nothing more is wanted of the edge */
	bool call_closed, closed_told;
	bool unfit;                      /* the edge said so, of the context itself */
	bool left;                       /* the client or its edge went away, and did not say that anything is unfit */
	unsigned repairs;
	const char *fault;               /* to be told in the turn */
	struct post turn;
	bool posted;
	char why[CALL_STATUS_TEXT_MAX + 1];
};

/* 0, or as call_start(); then nothing follows. */
int asker_start(struct asker *asker, const struct asker_config *config);
/* READY, and a part of the root was found missing: on_root follows when it is whole again, or on_failed. */
void asker_repair(struct asker *asker);
/* A number list of the entries whose times are wanted; not before on_root. */
void asker_want_times(struct asker *asker, struct span numbers);
/* A number list of the files whose contents somebody waits for, ahead of the root. */
void asker_want_files(struct asker *asker, struct span numbers);
/* All that was wanted has come: half-closes. on_closed follows. */
void asker_end(struct asker *asker);
/* Gives it up; on_closed follows, nothing else. May be called again. */
void asker_cancel(struct asker *asker);
/* After on_closed: gives the hold back. */
void asker_fini(struct asker *asker);
