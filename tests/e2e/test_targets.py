"""`sluice run --targets`: many targets at a time, unchanged ones from the cache, one report."""
import os
import signal
import xml.etree.ElementTree

from harness import check

TARGETS = """targets:
  proto: { paths: [proto] }
  server:
    paths: [server]
    needs: [proto]
    run: cat proto/api server/main && ! test -e tools && mkdir out && echo $MODE > out/mode
    env: MODE=release
    outputs: [out/mode]
  tools:
    paths: ["tools/**"]
    run: [sh, -c, "cat tools/one; ls /work | wc -l; exit $(cat tools/status)"]
"""


class Repository:
    def __init__(self, env, gateway, name="repository"):
        self.tree = env.path(name)
        self.client = env.client(gateway, name)
        for path, text in (("proto/api", "api\n"), ("server/main", "main\n"), ("tools/one", "one\n"), ("tools/status", "0"),
                           ("README", "read me"), ("targets.yaml", TARGETS)):
            self.write(path, text)

    def write(self, path, text):
        path = f"{self.tree}/{path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def run(self, *options, status=0):
        return self.client.run("run", "--targets", f"{self.tree}/targets.yaml", *options, self.tree, status=status)

    def report(self, *options, status=0):
        report = self.run("--json", *options, status=status).json()
        return report, {target["target"]: target for target in report["targets"]}


def test_what_changed_runs_and_the_rest_is_cached(env):
    env.need_executor()
    gateway = env.gateway(slots=2)
    it = Repository(env, gateway)
    report, targets = it.report()
    check(report["passed"] == 2 and report["cached"] == 0 and list(targets) == ["server", "tools"], f"{report}")
    it.write("README", "other words")
    report, _ = it.report()
    check(report["cached"] == 2, f"a change beside all targets: {report}")
    it.write("tools/one", "two\n")
    report, targets = it.report("--since", report["root"])
    check(targets["server"]["cached"] and not targets["tools"]["cached"], f"{report}")
    check(not targets["server"]["affected"] and targets["tools"]["affected"], f"{report}")
    it.write("proto/api", "other api\n")
    _, targets = it.report()
    check(not targets["server"]["cached"] and targets["tools"]["cached"], f"what a target needs is its input: {targets}")
    # Somebody else, from a checkout of his own, whose directory has another mode.
    other = Repository(env, gateway, "other")
    other.write("proto/api", "other api\n")
    other.write("tools/one", "two\n")
    os.chmod(other.tree, 0o700)
    report, _ = other.report()
    check(report["cached"] == 2, f"{report}")
    gateway.stop()


def test_failures_are_reported(env):
    env.need_executor()
    gateway = env.gateway(slots=2)
    it = Repository(env, gateway)
    it.write("tools/status", "3")
    it.write("targets.yaml", TARGETS + "  gone: { paths: nowhere, run: \"true\" }\n")
    junit, out = env.path("report.xml"), env.path("out")
    result = it.run("--junit", junit, "--output-dir", out, status=1)
    lines = result.stdout.splitlines()
    check(lines[0].split() == ["TARGET", "RESULT", "CACHE", "TIME"], result.stdout)
    check([line.split()[:2] for line in lines[1:4]] == [["server", "passed"], ["tools", "failed"], ["gone", "error"]], result.stdout)
    check(lines[2].endswith("exit 3") and lines[3].endswith("none of its paths is there"), result.stdout)
    check("---- tools: exit 3\none\n1\n" in result.stderr, f"a failed one's output is not shown: {result}")
    suite = xml.etree.ElementTree.parse(junit).getroot().find("testsuite")
    check((suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1"), str(suite.attrib))
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    check(cases["tools"].find("failure").get("message") == "exit 3", "no failure")
    check(cases["tools"].find("system-out").text == "one\n1\n", "no output")
    check(cases["gone"].find("error") is not None, "no error")
    with open(f"{out}/out/mode", encoding="utf-8") as file:
        check(file.read() == "release\n", "an output was not pulled")
    report, _ = it.report(status=1)
    check(report["cached"] == 1 and report["failed"] == 1 and report["errors"] == 1, f"{report}")
    it.write("targets.yaml", "targets: { tools: { paths: tools, run: \"printf one; printf two >&2; exit 3\" } }\n")
    result = it.run(status=1)
    check("---- tools: exit 3\none\ntwo\n#3 DONE" in result.stderr, f"what has no newline is a line all the same: {result}")
    gateway.stop()


def test_outputs_of_two_targets_in_one_directory(env):
    env.need_executor()
    gateway = env.gateway(slots=2)
    it = Repository(env, gateway)
    it.write("targets.yaml", "targets:\n" + "".join(
        f"  {name}: {{ paths: [{name}], run: mkdir dist && echo {name} > dist/{name}, outputs: [dist] }}\n" for name in ("server", "tools")))
    out = env.path("out")
    for cached in (0, 2):
        report, _ = it.report("--output-dir", out)
        check(report["cached"] == cached and sorted(os.listdir(out + "/dist")) == ["server", "tools"], f"{report}")
        os.unlink(out + "/dist/server")
    gateway.stop()


def test_a_missing_output_loses_no_report(env):
    env.need_executor()
    gateway = env.gateway(slots=2)
    it = Repository(env, gateway)
    it.write("targets.yaml", """targets:
  server: { paths: server, run: mkdir out && touch out/first out/last, outputs: [out/first, out/nothing, out/last] }
  tools: { paths: tools, run: touch two, outputs: [two] }
""")
    junit, out = env.path("report.xml"), env.path("out")
    report, targets = it.report("--junit", junit, "--output-dir", out, status=1)
    check((report["passed"], report["errors"]) == (1, 1) and "out/nothing" in targets["server"]["error"], f"{report}")
    check(sorted(os.listdir(out)) == ["out", "two"] and sorted(os.listdir(out + "/out")) == ["first", "last"], "outputs were left out")
    case = xml.etree.ElementTree.parse(junit).getroot().find("testsuite/testcase[@name='server']")
    check("out/nothing" in case.find("error").get("message"), "JUnit does not say what is missing")
    gateway.stop()


def test_an_interrupt_loses_no_report(env):
    env.need_executor()
    gateway = env.gateway(slots=2)
    it = Repository(env, gateway)
    it.write("targets.yaml", """targets:
  server: { paths: server, run: exit 3 }
  tools: { paths: tools, run: "while :; do sleep 1; done" }
""")
    junit = env.path("report.xml")
    process = env.start("run", *it.client.options, "--targets", f"{it.tree}/targets.yaml", "--junit", junit, it.tree, home=it.client.home)
    for line in process.stderr:
        if line == b"---- server: exit 3\n":
            break
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    check(b"\n#3 ERROR: interrupted\n" in b"\n" + error, f"{error}")
    lines = output.decode().splitlines()
    check(process.returncode == 130, f"{process.returncode}: {output}")
    check([line.split()[:2] for line in lines[1:3]] == [["server", "failed"], ["tools", "error"]], f"{output}")
    suite = xml.etree.ElementTree.parse(junit).getroot().find("testsuite")
    check((suite.get("failures"), suite.get("errors")) == ("1", "1"), str(suite.attrib))
    gateway.stop()


def test_wrong_use_is_refused(env):
    gateway = env.gateway(slots=0)
    it = Repository(env, gateway)
    for options in (["--root", "sha256:" + "0" * 64 + "/1"],
                    ["--output", "x"]):
        it.run(*options, status=2)
    it.client.run("run", "--junit", "x", it.tree, "--", "true", status=2)
    it.write("targets.yaml", "targets:\n  a: { paths: [proto] }\n")
    result = it.run(status=1)
    check("no target in" in result.stderr, f"{result}")
    gateway.stop()
