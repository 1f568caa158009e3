package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// compareWays builds a context with links, secrets and a RUN step by both builders of a home, twice.
func compareWays(t *testing.T, home *rig.Home) {
	t.Helper()
	secret := filepath.Join(rig.Directory(t), "secret")
	putFiles(t, filepath.Dir(secret), files{"secret": "hush"})
	directory := newContext(t, shell+"COPY src /src\nRUN --mount=type=secret,id=token,required cat /run/secrets/token > /told\n", nil)
	oddTree(t, directory)
	lists := map[string]string{}
	for _, way := range ways {
		build := func() (string, string) {
			out := filepath.Join(t.TempDir(), "out")
			return home.MustRun(t, "buildx", "build", "--builder", way, "--progress", "plain", "--secret", "id=token,src="+secret,
				"--output", "type=local,dest="+out, directory), out
		}
		_, out := build()
		lists[way] = listing(t, out)
		if told, again := build(); strings.Count(told, "CACHED") < 4 || listing(t, again) != lists[way] {
			t.Errorf("%s, the second time: %s", way, told)
		}
	}
	if lists["sluice"] != lists["straight"] || !strings.Contains(lists["sluice"], `"/told"`) {
		t.Error(fake.FirstDifference(lists["sluice"], lists["straight"]))
	}
	broken := newContext(t, shell+"RUN exit 7\n", nil)
	for _, way := range ways {
		if out, err := home.Run("buildx", "build", "--builder", way, "--progress", "plain", broken); rig.ExitCode(err) != 1 ||
			!strings.Contains(out, "exit code: 7") {
			t.Errorf("%s: %v: %s", way, err, out)
		}
	}
}

// A client of years ago, which opens a connection of its own to look at the builder and speaks an older session.
func TestOldClient(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	home := *p.home
	home.Buildx = rig.Setting(t, "OLD_BUILDX")
	compareWays(t, &home)
	directory, out := newContext(t, "FROM scratch\nCOPY src /src\n", nil), t.TempDir()
	file, names := bakeFile(t, directory, out, 3)
	home.MustRun(t, "buildx", append([]string{"bake", "--builder", "sluice", "-f", file}, names...)...)
	if _, err := os.Stat(filepath.Join(out, "t2/src/nonce")); err != nil {
		t.Error(err)
	}
}

// A daemon of years ago: smaller limits, no history of some kinds, other health checks.
func TestOldDaemon(t *testing.T) {
	t.Parallel()
	binary := rig.Setting(t, "OLD_BUILDKITD")
	p := &pair{behind: rig.NewDaemonOf(t, binary), straight: rig.NewDaemonOf(t, binary), home: rig.NewHome(t)}
	p.gateway = rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(p.behind.Address, 8)}})
	p.home.AddBuilder(t, "sluice", "tcp://"+p.gateway.Address)
	p.home.AddBuilder(t, "straight", "tcp://"+p.straight.Address)
	compareWays(t, p.home)
}

// Both.
func TestOldClientAndOldDaemon(t *testing.T) {
	t.Parallel()
	daemon := rig.NewDaemonOf(t, rig.Setting(t, "OLD_BUILDKITD"))
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 8)}})
	home := rig.NewHome(t)
	home.Buildx = rig.Setting(t, "OLD_BUILDX")
	home.AddBuilder(t, "sluice", "tcp://"+gateway.Address)
	directory, out := newContext(t, shell+"COPY src /src\n", nil), filepath.Join(t.TempDir(), "out")
	oddTree(t, directory)
	home.MustRun(t, "buildx", "build", "--builder", "sluice", "--output", "type=local,dest="+out, directory)
	if list := listing(t, out); !strings.Contains(list, `"/src/hard"`) {
		t.Error(list)
	}
}
