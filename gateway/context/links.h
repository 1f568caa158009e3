/*
 * links: which files of a tree are names of one file on the disk. The first name of a group (in the order of a walk
 * that visits each directory's entries by the bytes of their names, going down where a directory stands) is an ordinary
 * file; the others record its path. Names outside of the tree do not count. So the result does not depend on the order
 * in which the disk lists directories. Pure.
 */
#pragma once

#include "gateway/context/table.h"

/*
 * Sets or clears `hardlink` of every included row with TABLE_ROW_LINKED, and marks the directories dirty where that is
 * a change. No scan finds a path longer than TREE_PATH_MAX; of a group whose first name has one all are ordinary files.
 * 0 or -ENOMEM, -EOVERFLOW.
 */
int links_resolve(struct table *table);
