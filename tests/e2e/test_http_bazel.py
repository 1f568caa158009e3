"""The HTTP cache and Debian's Bazel, with --remote_cache=http://."""
from bazel import bazel_with
from harness import check
from test_http import tokens_file

FILES = {"cache/in.txt": "a line\n", "cache/BUILD": """
[genrule(name = "part_%d" % i, srcs = ["in.txt"], outs = ["part_%d.txt" % i], cmd = "cat $(SRCS) > $@; echo %d >> $@" % i)
 for i in range(20)]
genrule(name = "long", outs = ["long.bin"], cmd = "dd if=/dev/zero bs=1000 count=10000 status=none > $@; echo end >> $@")
genrule(name = "all", srcs = ["part_%d.txt" % i for i in range(20)] + ["long.bin"], outs = ["all.bin"], cmd = "cat $(SRCS) > $@")
"""}


def test_bazel(env):
    """The second clean build is hits alone; the same with a password over TLS."""
    path = tokens_file(env, ("bazels-own", "acme", "all"))
    plain, tls = env.gateway(), env.gateway(tls=True, arguments=["--tokens", path])
    here = plain.address.replace("grpc", "http")
    for url in (here, here + "/team/b", tls.address.replace("grpcs://", "https://bazel:bazels-own@")):
        bazel = bazel_with(env, FILES, "--remote_cache=" + url)
        output = bazel.run("build", "//cache:all")
        check("22 remote cache hit" not in output, output)
        bazel.run("clean")
        output = bazel.run("build", "//cache:all")
        check("22 remote cache hit" in output, output)
        check("Remote Cache" not in output, output)
    plain.stop()
    tls.stop()
