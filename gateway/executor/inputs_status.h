/*
 * inputs_status: what an action is said to have failed with when its tree could not be made. Pure.
 */
#pragma once

#include "proto/grpc.h"

/*
 * By what workspace_materialise() returned. All of the tree was at the gateway when the action was given out: what is not to be had now
 * may be at the next time, or the gateway then says which blobs are missing, so the client is to ask again (UNAVAILABLE). What is wrong
 * with the tree itself stays so.
 */
enum grpc_status inputs_status(int r);
