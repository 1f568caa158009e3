"""Long loops; `make soak` runs them, `make test` does not."""
import random

import shared
import trees
from harness import check


def test_random_edits_for_long(env):
    """Each state of the tree comes down as it went up, over many edits and under a ceiling that evicts."""
    generator = random.Random("soak")
    gateway = env.gateway(arguments=["--ceiling", "400MB"])
    client = env.client(gateway)
    tree = shared.own_tree(env)
    for i in range(500 if env.accept == "soak" else 3):
        for path in trees.small_files(tree, generator.randrange(1, 200), i):
            trees.change_byte(path, i)
        if i % 5 == 0:
            trees.insert_byte(shared.big_file(tree), i)
        root = client.push(tree)["root"]
        if i % 10 == 0:
            back = env.path("back")
            client.pull(root, back)
            check(not trees.differences(tree, back), f"after edit {i}")
            env.remove(back)
    gateway.stop()
