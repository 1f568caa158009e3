package reapi

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A workspace of 12 C files and a program, by genrules: Debian's Bazel has no rules for C without the network.
const build = `
FILES = ["m%%d" %% n for n in range(%d)]
[genrule(name = f + "_o", srcs = [f + ".c", "all.h"], outs = [f + ".o"], cmd = "%s cc -c -I. -o $@ $(location " + f + ".c)") for f in FILES]
genrule(name = "program", srcs = [f + ".o" for f in FILES], outs = ["program_bin"], cmd = "cc -o $@ $(SRCS)", executable = 1)
genrule(name = "large", outs = ["large.bin"], cmd = "awk 'BEGIN { for (n = 0; n < 400000; n++) print n, 1234567890123456 }' > $@")
`

type bazel struct {
	t                 *testing.T
	workspace, output string
	flags             []string
}

func newBazel(t *testing.T, files int, before string, flags ...string) *bazel {
	t.Helper()
	if _, err := exec.LookPath("bazel"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("bazel-bootstrap is not installed")
		}
		t.Skip("bazel-bootstrap is not installed")
	}
	b := &bazel{t: t, workspace: scratch(t), output: scratch(t), flags: flags}
	// One server a test: a Java that starts for each command (--batch) takes longer than the builds.
	t.Cleanup(func() {
		if text, err := b.command("shutdown").CombinedOutput(); err != nil {
			t.Errorf("bazel shutdown: %v: %s", err, text)
		}
	})
	b.put("WORKSPACE", "")
	b.put("BUILD", fmt.Sprintf(build, files, before))
	declarations, sum := "", "0"
	for n := range files {
		declarations += fmt.Sprintf("int f%d(void);\n", n)
		if n > 0 {
			sum += fmt.Sprintf(" + f%d()", n)
			b.put(fmt.Sprintf("m%d.c", n), fmt.Sprintf("#include \"all.h\"\nint f%d(void) { return %d; }\n", n, n))
		}
	}
	b.put("all.h", declarations)
	b.put("m0.c", "#include <stdio.h>\n#include \"all.h\"\nint main(void) { printf(\"%d\\n\", "+sum+"); return 0; }\n")
	return b
}

func (b *bazel) put(name, text string) {
	if err := os.WriteFile(filepath.Join(b.workspace, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bazel) command(arguments ...string) *exec.Cmd {
	command := exec.Command("bazel", append([]string{"--output_user_root=" + b.output, "--max_idle_secs=300",
		"--host_jvm_args=-Xmx512m"}, arguments...)...)
	command.Dir = b.workspace
	return command
}

func (b *bazel) arguments(g *gateway) []string {
	return append([]string{"build", "//...", "--remote_cache=grpc://" + g.address, "--spawn_strategy=standalone",
		"--noshow_progress", "--color=no"}, b.flags...)
}

// build runs one and says how its actions came: "5 remote cache hit, 1 internal".
func (b *bazel) build(g *gateway) string {
	b.t.Helper()
	text, err := b.command(b.arguments(g)...).CombinedOutput()
	if err != nil || strings.Contains(string(text), "bulk transfer") {
		b.t.Fatalf("bazel: %v: %s", err, text)
	}
	return processes(b.t, string(text))
}

func processes(t *testing.T, text string) string {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		if _, rest, found := strings.Cut(line, " processes: "); found {
			return strings.TrimSuffix(rest, ".")
		}
	}
	t.Fatalf("no line of processes: %s", text)
	return ""
}

func (b *bazel) clean() {
	b.t.Helper()
	if text, err := b.command("clean").CombinedOutput(); err != nil {
		b.t.Fatalf("bazel clean: %v: %s", err, text)
	}
}

func expect(t *testing.T, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Errorf("%q, not %q", got, wanted)
	}
}

// A second clean build comes from the cache alone; another instance knows nothing of it.
func TestBazelCache(t *testing.T) {
	g := newGateway(t)
	b := newBazel(t, 12, "")
	expect(t, b.build(g), "1 internal, 14 local")
	b.clean()
	expect(t, b.build(g), "14 remote cache hit, 1 internal")
	program, err := exec.Command(filepath.Join(b.workspace, "bazel-bin", "program_bin")).Output()
	if err != nil || string(program) != "66\n" {
		t.Errorf("the program from the cache: %v: %q", err, program)
	}
	b.clean()
	b.flags = []string{"--remote_instance_name=team/a"}
	expect(t, b.build(g), "1 internal, 14 local")
	b.clean()
	expect(t, b.build(g), "14 remote cache hit, 1 internal")
	if g.reaches(t, "sluice_reapi_results_stored_total", 28) != 28 {
		t.Error("not 28 results were stored")
	}
}

// A gateway that is killed in mid-build and comes back: the build succeeds, and what was stored before is there.
func TestBazelAndAKilledGateway(t *testing.T) {
	g := newGateway(t)
	b := newBazel(t, 40, "sleep 0.3;", "--jobs=2", "--remote_retries=10")
	command := b.command(b.arguments(g)...)
	log := &output{}
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Process.Kill()
	g.reaches(t, "sluice_reapi_results_stored_total", 3)
	g.crash()
	g.start(t)
	if err := command.Wait(); err != nil {
		t.Fatalf("bazel: %v: %s", err, log)
	}
	b.clean()
	came := b.build(g)
	if !strings.Contains(came, "remote cache hit") {
		t.Errorf("nothing from the cache after the restart: %s", came)
	}
	b.clean()
	expect(t, b.build(g), "42 remote cache hit, 1 internal")
}
