"""perf/edge/trees.py KIND DIRECTORY CACHE: makes DIRECTORY/tree and DIRECTORY/next/tree, a tree and its next version.

linux: the Linux source of two Debian packages, the newest and the newest of another upstream version, or where those cannot be
had two releases of a large Go module. small: 2,000 files of this machine, and the same with one in thirty edited, which is no
real version and only shows that the rows work.
"""
import json
import os
import random
import shutil
import subprocess
import sys

sys.path.insert(0, "tests/e2e")
import trees  # noqa: E402

BIG_BYTES = 200_000_000
SMALL_FILES, SMALL_BIG_BYTES = 2000, 20_000_000
MODULE, MODULE_VERSIONS = "k8s.io/kubernetes", ("v1.30.0", "v1.30.1")


def package_versions():
    """The newest version and the newest one of another upstream version, older first."""
    listed = subprocess.run(["apt-cache", "madison", trees.LINUX_PACKAGE], stdout=subprocess.PIPE, check=True, text=True).stdout
    versions = [line.split("|")[1].strip() for line in listed.splitlines()]
    others = [version for version in versions if version.split("-")[0] != versions[0].split("-")[0]]
    return others[0], versions[0]


def unpacked_package(version, cache):
    unpacked = os.path.join(cache, f"{trees.LINUX_PACKAGE}_{version}")
    if not os.path.isdir(unpacked):
        work = unpacked + ".part"
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(os.path.join(work, "tree"))
        os.chmod(work, 0o777)
        subprocess.run(["apt-get", "-q", "download", f"{trees.LINUX_PACKAGE}={version}"], cwd=work, check=True, stdin=subprocess.DEVNULL)
        package = next(name for name in os.listdir(work) if name.endswith(".deb"))
        subprocess.run(["dpkg-deb", "-x", package, "package"], cwd=work, check=True)
        archive = os.path.join(work, "package/usr/src", trees.LINUX_PACKAGE + ".tar.xz")
        subprocess.run(["tar", "--no-same-owner", "-xJf", archive, "-C", os.path.join(work, "tree")], check=True)
        os.rename(os.path.join(work, "tree"), unpacked)
        shutil.rmtree(work)
    return unpacked


def unpacked_module(version, cache):
    environment = dict(os.environ, GOMODCACHE=os.path.join(cache, "go"), GOFLAGS="-modcacherw")
    told = subprocess.run(["go", "mod", "download", "-json", f"{MODULE}@{version}"], cwd="/", env=environment, stdout=subprocess.PIPE,
                          check=True).stdout
    return json.loads(told)["Dir"]


def make_linux(directory, cache):
    try:
        sources = [unpacked_package(version, cache) for version in package_versions()]
    except (subprocess.CalledProcessError, IndexError) as error:
        print(f"no two packages of {trees.LINUX_PACKAGE} ({error}): {MODULE} instead", file=sys.stderr)
        sources = [unpacked_module(version, cache) for version in MODULE_VERSIONS]
    for source, target in zip(sources, ("tree", "next/tree")):
        target = os.path.join(directory, target)
        os.makedirs(target)
        trees.copy_tree(source, target)
        subprocess.run(["chmod", "-R", "u+w", target], check=True)
        trees.add_oddities(target)
        trees.write_random(os.path.join(target, "big.bin"), BIG_BYTES, "big")


def make_small(directory):
    tree, following = os.path.join(directory, "tree"), os.path.join(directory, "next/tree")
    os.makedirs(tree)
    trees.make_tree(tree, SMALL_FILES, SMALL_BIG_BYTES)
    os.mkdir(os.path.dirname(following))
    trees.copy_tree(tree, following)
    generator = random.Random("next")
    for parent, _, names in sorted(os.walk(os.path.join(following, "real"))):
        for name in sorted(names):
            path = os.path.join(parent, name)
            if generator.randrange(30) == 0 and os.path.isfile(path) and not os.path.islink(path):
                with open(path, "r+b") as file:
                    content = file.read()
                    place = generator.randrange(len(content) + 1)
                    file.seek(place)
                    file.write(generator.randbytes(100) + content[place:])


def main():
    kind, directory, cache = sys.argv[1:]
    os.makedirs(cache, exist_ok=True)
    if kind == "small":
        make_small(directory)
    else:
        make_linux(directory, cache)


if __name__ == "__main__":
    main()
