"""Trees that several tests use: made once, copied for those who change them."""
import os

import trees

SIZES = {"small": (5000, 20_000_000), "full": (None, 200_000_000), "soak": (5000, 20_000_000)}


def tree(env):
    """The path of the tree that nobody changes."""
    path = os.path.join(env.tmp, "tree")
    if not os.path.isdir(path):
        files, big = SIZES[env.accept]
        if files is None:
            trees.make_linux_tree(path, env.cache, big)
        else:
            trees.make_tree(path, files, big)
    return path


def own_tree(env, name="tree"):
    """A copy that the test may change."""
    path = env.path(name)
    trees.copy_tree(tree(env), path)
    return path


def big_file(root):
    return os.path.join(root, "big.bin")
