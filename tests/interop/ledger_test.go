package interop

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

// builds as `sluice builds --json` lists them: an object a line.
func builds(t *testing.T, gateway *rig.Gateway) []map[string]any {
	t.Helper()
	out, err := exec.Command(rig.Setting(t, "SLUICE_BINARY"), "builds", "--json", "--gateway", "grpc://"+gateway.Address).CombinedOutput()
	if err != nil {
		t.Fatalf("sluice builds: %v: %s", err, out)
	}
	list := []map[string]any{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if line == "" {
			continue
		}
		build := map[string]any{}
		if err := json.Unmarshal([]byte(line), &build); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, build)
	}
	return list
}

// Every build leaves a line: one that went well, one whose step failed (the user's fault), one whose client left.
func TestBuildsAreListed(t *testing.T) {
	t.Parallel()
	needs(t, rig.Ledger)
	daemon := rig.NewDaemon(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 2)}})
	home := rig.NewHome(t)
	home.AddBuilder(t, "sluice", "tcp://"+gateway.Address)
	good := newContext(t, shell+"COPY src /src\n", nil)
	putFiles(t, good, files{"src/big": noise(1_000_000, 3)})
	home.MustRun(t, "buildx", "build", "--builder", "sluice", good)
	if _, err := home.Run("buildx", "build", "--builder", "sluice", newContext(t, shell+"RUN exit 3\n", nil)); err == nil {
		t.Error("it succeeded")
	}
	s := beginSleeper(t, home, "sluice")
	_ = s.Command.Process.Kill()
	rig.Eventually(t, 30*time.Second, "three builds are listed", func() bool { return len(builds(t, gateway)) == 3 })
	text, _ := json.Marshal(builds(t, gateway))
	for _, wanted := range []string{filepath.Base(good), daemon.Address, `"user"`, `client`} {
		if !strings.Contains(string(text), wanted) {
			t.Errorf("no %s in %s", wanted, text)
		}
	}
}

// The client's own progress tells what its context cost.
func TestProgressTellsOfTheContext(t *testing.T) {
	t.Parallel()
	needs(t, rig.Broker)
	daemon := rig.NewDaemon(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 2)}})
	home := rig.NewHome(t)
	home.AddBuilder(t, "sluice", "tcp://"+gateway.Address)
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	oddTree(t, directory)
	for range 2 {
		out := home.MustRun(t, "buildx", "build", "--builder", "sluice", "--progress", "plain", directory)
		if !strings.Contains(out, "[sluice] context: ") || !strings.Contains(out, "from you") {
			t.Error(out)
		}
	}
}
