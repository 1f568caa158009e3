package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

var fixedTime = time.Unix(1_700_000_000, 0)

// buildctl sends another sequence of calls and no shared key.
func TestBuildctl(t *testing.T) {
	t.Parallel()
	checkBuildctl(t, shared(t))
}

func checkBuildctl(t *testing.T, p *pair) {
	directory := newContext(t, shell+"COPY src /src\nRUN cat /src/nonce > /made\n", nil)
	lists := map[string]string{}
	for _, way := range ways {
		address := p.address(way)
		if out := p.home.MustRun(t, "buildctl", "--addr", address, "debug", "workers"); !strings.Contains(out, "linux/") {
			t.Errorf("%s: workers: %s", way, out)
		}
		out := filepath.Join(t.TempDir(), "out")
		p.home.MustRun(t, "buildctl", "--addr", address, "build", "--frontend", "dockerfile.v0", "--local", "context="+directory,
			"--local", "dockerfile="+directory, "--output", "type=local,dest="+out)
		lists[way] = p.listing(t, out)
	}
	if lists["sluice"] != lists["straight"] {
		t.Error(fake.FirstDifference(lists["sluice"], lists["straight"]))
	}
}

// bakeFile names ten targets of one directory, each with an output of its own.
func bakeFile(t *testing.T, directory, out string, targets int) (string, []string) {
	t.Helper()
	var file strings.Builder
	names := []string{}
	for i := range targets {
		names = append(names, fmt.Sprintf("t%d", i))
		fmt.Fprintf(&file, "target \"t%d\" {\n  context = %q\n  args = { N = \"%d\" }\n  output = [\"type=local,dest=%s/t%d\"]\n}\n",
			i, directory, i, out, i)
	}
	path := filepath.Join(t.TempDir(), "bake.hcl")
	if err := os.WriteFile(path, []byte(file.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, names
}

// bake builds ten targets over one connection, with one session for the context that they share.
func TestBake(t *testing.T) {
	t.Parallel()
	checkBake(t, shared(t))
}

func checkBake(t *testing.T, p *pair) {
	directory := newContext(t, shell+"COPY src /src\nARG N\nRUN echo target $N > /number\n", nil)
	oddTree(t, directory)
	lists := map[string]string{}
	for _, way := range ways {
		out := t.TempDir()
		file, names := bakeFile(t, directory, out, 10)
		p.home.MustRun(t, "buildx", append([]string{"bake", "--builder", way, "--allow", "fs=*", "-f", file}, names...)...)
		for _, name := range names {
			lists[way] += name + "\n" + p.listing(t, filepath.Join(out, name))
		}
	}
	if lists["sluice"] != lists["straight"] {
		t.Error(fake.FirstDifference(lists["sluice"], lists["straight"]))
	}
}

// The commands that look at builders, caches and histories.
func TestOtherCommands(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	directory := newContext(t, shell+"COPY src /src\n", nil)
	for _, way := range ways {
		p.home.MustRun(t, "buildx", "build", "--builder", way, directory)
		for _, c := range []struct {
			arguments []string
			wanted    string
		}{
			{[]string{"ls"}, "running"},
			{[]string{"inspect", "--bootstrap", way}, "linux/amd64"},
			{[]string{"du", "--builder", way, "--verbose"}, "COPY src /src"},
			{[]string{"history", "ls", "--builder", way}, "Completed"},
			{[]string{"history", "inspect", "--builder", way}, "Build Steps:"},
			{[]string{"prune", "--force", "--all", "--builder", way}, "Total"},
			{[]string{"history", "rm", "--builder", way, "--all"}, ""},
		} {
			if out := p.home.MustRun(t, "buildx", c.arguments...); !strings.Contains(out, c.wanted) {
				t.Errorf("%s: buildx %v: no %q in: %s", way, c.arguments, c.wanted, out)
			}
		}
		// After all that the cache is empty.
		if out := p.home.MustRun(t, "buildx", "du", "--builder", way, "--verbose"); strings.Contains(out, "COPY src /src") {
			t.Errorf("%s: prune left: %s", way, out)
		}
	}
}

// solveDockerfile runs a build by BuildKit's own client, without buildx.
func solveDockerfile(ctx context.Context, t *testing.T, address, directory string, internal bool) error {
	t.Helper()
	c, err := client.New(ctx, "tcp://"+address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fs, err := fsutil.NewFS(directory)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Solve(ctx, nil, client.SolveOpt{Frontend: "dockerfile.v0", Internal: internal,
		LocalMounts: map[string]fsutil.FS{"context": fs, "dockerfile": fs}}, nil)
	return err
}

// An Internal build is a build: it runs, and only its history is not kept.
func TestInternalBuild(t *testing.T) {
	t.Parallel()
	p := shared(t)
	directory := newContext(t, shell+"COPY src /src\nRUN test -s /src/nonce\n", nil)
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	if err := solveDockerfile(ctx, t, p.gateway.Address, directory, true); err != nil {
		t.Fatal(err)
	}
	putFiles(t, directory, files{"Dockerfile": shell + "RUN exit 9\n"})
	if err := solveDockerfile(ctx, t, p.gateway.Address, directory, true); err == nil || !strings.Contains(err.Error(), "exit code: 9") {
		t.Error(err)
	}
}
