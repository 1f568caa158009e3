package interop

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice.dev/sluice/tests/interop/rig"
)

// edgeDocument is docs/edge.md's part under a heading.
func edgeDocument(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/edge.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/edge.md has no part %q", heading)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	return part
}

// documented are the indented lines of a part from the first that has `from` on, without the indent.
func documented(t *testing.T, part, from string) string {
	t.Helper()
	lines := []string{}
	for _, line := range strings.Split(part, "\n") {
		indented := strings.HasPrefix(line, "    ")
		if len(lines) == 0 && !(indented && strings.Contains(line, from)) {
			continue
		}
		if !indented && line != "" {
			break
		}
		lines = append(lines, strings.TrimPrefix(line, "    "))
	}
	if len(lines) == 0 {
		t.Fatalf("docs/edge.md has no line with %q", from)
	}
	return strings.Join(lines, "\n")
}

// runDocumented runs a shell's lines in a directory, with `sluice` and `docker` (which is buildx here) in the PATH.
func runDocumented(t *testing.T, home *rig.Home, directory, script string, environment ...string) {
	t.Helper()
	programs := rig.Directory(t)
	docker := "#!/bin/sh\n[ \"$1\" = buildx ] || exit 64\nshift\nexec " + home.Buildx + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(programs, "docker"), []byte(docker), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(rig.Setting(t, "SLUICE_BINARY"), filepath.Join(programs, "sluice")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	command := home.Command(ctx, "sh", "-e", "-c", script)
	command.Path, command.Err = "/bin/sh", nil
	command.Dir = directory
	command.Env = append(append(command.Env, "PATH="+programs+":"+os.Getenv("PATH")), environment...)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, script, out)
	}
}

// The jobs of docs/edge.md as they stand there, but for addresses and places: they build, through an edge of their own.
func TestDocumentedJobs(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	const secret = "a-token"
	tokens := filepath.Join(rig.Directory(t), "tokens")
	if err := os.WriteFile(tokens, fmt.Appendf(nil, "%x default all\n", sha256.Sum256([]byte(secret))), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(tokens, 65534, 65534); err != nil { // the gateway's user
		t.Fatal(err)
	}
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(rig.NewDaemon(t).Address, 4)},
		Arguments: []string{"--tokens", tokens}})
	for _, job := range []struct{ name, heading, from string }{{"any CI", "Any other CI", "sluice edge"}, {"actions", "GitHub Actions", "sluice edge --listen"}} {
		t.Run(job.name, func(t *testing.T) {
			t.Parallel()
			place, out := rig.Directory(t), filepath.Join(rig.Directory(t), "out")
			token := filepath.Join(place, "token")
			if err := os.WriteFile(token, []byte(secret+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			script := documented(t, edgeDocument(t, job.heading), job.from)
			if job.name == "actions" {
				// The step's own lines; its build is another step, and its machine goes.
				step := regexp.MustCompile(`(?s)\n- uses: .*`).ReplaceAllString(script, "")
				script = step + "\ndocker buildx build --output type=local,dest=" + out + " .\nkill $!\n"
			}
			script = strings.NewReplacer("grpcs://gateway.example:8372", "grpc://"+gateway.Address, "/run/secrets/sluice", token,
				"/var/cache/sluice-edge", filepath.Join(place, "cache"), "--push -t registry.example/app", "--output type=local,dest="+out).Replace(script)
			runDocumented(t, rig.NewHome(t), newContext(t, "FROM scratch\nCOPY src /src\n", files{"src/file": "content"}), script,
				"RUNNER_TEMP="+place, "SLUICE_UPSTREAM=grpc://"+gateway.Address, "SLUICE_TOKEN="+secret)
			if content, err := os.ReadFile(filepath.Join(out, "src/file")); err != nil || string(content) != "content" {
				t.Errorf("%q was built: %v", content, err)
			}
		})
	}
	t.Cleanup(func() {
		gateway.Gauges(t)
		if metrics := gateway.Metrics(t); metrics["sluice_plays_total"] < 2 || metrics["sluice_plays_unfit_total"] != 0 {
			t.Error("the jobs' builds did not go through edges")
		}
	})
}

// The settings of a laptop's edge are read: what it stops at is the certificate, which is not there.
func TestDocumentedSettings(t *testing.T) {
	t.Parallel()
	directory := rig.Directory(t)
	settings := filepath.Join(directory, "sluice.yaml")
	if err := os.WriteFile(settings, []byte(documented(t, edgeDocument(t, "A laptop"), "edge:")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(rig.Setting(t, "SLUICE_BINARY"), "edge", "--config", settings, "--listen",
		"unix://"+filepath.Join(directory, "socket"), "--store", filepath.Join(directory, "store")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/home/me/.config/sluice/cert.pem: No such file") {
		t.Errorf("%v: %s", err, out)
	}
}
