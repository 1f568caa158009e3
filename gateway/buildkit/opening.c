/* What of a binding's calls is opened at its executor, and in which order. */
#include "gateway/buildkit/buildkit_private.h"

#include "gateway/buildkitd/executor_process.h"

/*
 * buildx gives the builds of one target on several nodes the same Ref, each on a connection of its own, and a daemon
 * takes a Ref for one build at a time ("job ID … exists"; it keeps it for ten seconds more). So the second of two goes
 * to another executor, or waits for the first where there is none with room. What is replayed has left its daemon, which may be
 * there still, and the other may have the twin. A daemon whose process has ended keeps nothing, and who is there in its place
 * has the Ref only of builds that were brought to it since, which are counted as any.
 */
bool opening_has_twin(const struct buildkit_call *solve, const char *executor)
{
	struct buildkit *buildkit = solve->binding->buildkit;
	const char *tenant = solve->binding->tenant;

	if (solve->has_ref || !refs_taken(&buildkit->refs, tenant, solve->ref, executor, ring_now_ns(buildkit->ring)))
		return false;
	if (!executor_process_ended(refs_keeper(&buildkit->refs, tenant, solve->ref, executor)))
		return true;
	refs_let_go(&buildkit->refs, tenant, solve->ref, executor);
	return false;
}

/* A session is of use there when a build is; one that only the probe has stays here. */
static bool session_may_open(const struct binding *binding, const struct buildkit_call *session)
{
	bool builds = false;

	for_each_call(call, binding) {
		if (call->kind != CALL_SOLVE || !call->known)
			continue;
		if (call->probe && strcmp(call->session, session->session) == 0)
			return false;
		builds |= !call->probe && !opening_has_twin(call, binding->uplink->executor);
	}
	return builds;
}

/* What names a Ref goes where its Solve is: that may still be on a connection which takes no more. */
static bool solve_is_here(const struct binding *binding, const struct buildkit_call *solve)
{
	return !replay_under_way(solve->replay) &&
	       (!call_carried(solve) || strcmp(solve->forward.executor, binding->uplink->executor) == 0);
}

/* Of a Solve that has to wait for its twin: nothing of it may come there, it would be taken for the other's. */
static bool wait_for_twin(struct binding *binding, const struct buildkit_call *solve)
{
	if (!call_held(solve) || !opening_has_twin(solve, binding->uplink->executor))
		return false;
	binding->twin_deadline_ns = ring_now_ns(binding->buildkit->ring) + BINDING_TWIN_PAUSE_NS;
	return true;
}

static bool call_may_open(struct binding *binding, const struct buildkit_call *call)
{
	const struct buildkit_call *solve;

	if (!call_held(call) || !call->known)
		return false;
	switch (call->kind) {
	case CALL_SESSION:
		return session_may_open(binding, call);
	case CALL_SOLVE:
		return !call->probe && !wait_for_twin(binding, call);
	case CALL_STATUS:
	case CALL_RETURN:
		/* Whether it is the probe's is known with its Solve. */
		solve = binding_solve(binding, call->ref);
		if (solve && wait_for_twin(binding, solve))
			return false;
		if (solve && call->kind == CALL_RETURN && !solve_is_here(binding, solve))
			return false;
		return solve ? !solve->probe : !call->ref[0];
	case CALL_BRIDGE:
		solve = binding_solve(binding, call->ref);
		return !solve || (solve_is_here(binding, solve) && !wait_for_twin(binding, solve));
	default:
		return false;
	}
}

static unsigned opening_rank(enum call_kind kind)
{
	return kind == CALL_SESSION ? 0 : kind == CALL_SOLVE ? 1 : 2;
}

/* False: the connection takes no more. */
static bool open_rank(struct binding *binding, unsigned rank)
{
	for_each_call(call, binding)
		if (opening_rank(call->kind) == rank && call_may_open(binding, call) && !call_open(call))
			return false;
	return true;
}

bool opening_is_due(struct binding *binding)
{
	for_each_call(call, binding)
		if (call_may_open(binding, call))
			return true;
	return false;
}

static void go_on(struct binding *binding)
{
	for_each_call(call, binding)
		if (call->replay && call_carried(call))
			replay_go_on(call->replay, binding->uplink);
}

void opening_run(struct binding *binding)
{
	for (unsigned rank = 0; rank < 3 && uplink_usable(binding->uplink); rank++)
		if (!open_rank(binding, rank))
			break;
	if (uplink_usable(binding->uplink))
		go_on(binding);
}
