package interop

import (
	"encoding/json"
	"os"
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

// stepsOf counts what raw progress tells of a daemon's steps, each once: those that it had, and those that it ran.
func stepsOf(output string) (cached, executed int) {
	ended := map[string]string{}
	for _, line := range strings.Split(output, "\n") {
		var update struct {
			Vertexes []struct {
				Digest, Name, Error string
				Cached              bool
				Completed           *time.Time
			}
		}
		if json.Unmarshal([]byte(line), &update) != nil {
			continue
		}
		for _, vertex := range update.Vertexes {
			if vertex.Completed == nil || strings.HasPrefix(vertex.Name, "[sluice]") {
				continue
			}
			switch {
			case vertex.Cached:
				ended[vertex.Digest] = "cached"
			case vertex.Error != "":
				ended[vertex.Digest] = "failed"
			default:
				ended[vertex.Digest] = "executed"
			}
		}
	}
	for _, how := range ended {
		switch how {
		case "cached":
			cached++
		case "executed":
			executed++
		}
	}
	return cached, executed
}

// The line of a build tells what it was: files of its context, those that changed, the content that the client had to send, steps that
// were cached and that ran. New, unchanged, and with one file edited.
func TestListedFigures(t *testing.T) {
	t.Parallel()
	needs(t, rig.Ledger, rig.Broker)
	home, gateway, daemon := lone(t, 2)
	directory := newContext(t, shell+"COPY src /src\nRUN echo made > /made\n", files{"src/big": noise(1_000_000, 3), "src/small": "s", "unasked": "u"})
	size := func(names ...string) (sum int64) {
		for _, name := range names {
			info, err := os.Stat(filepath.Join(directory, name))
			if err != nil {
				t.Fatal(err)
			}
			sum += info.Size()
		}
		return sum
	}
	expect := func(what string, listed int, changed, bytes int64) {
		t.Helper()
		out := home.MustRun(t, "buildx", "build", "--builder", "sluice", "--progress", "rawjson", directory)
		rig.Eventually(t, 30*time.Second, what+" is listed", func() bool { return len(builds(t, gateway)) == listed })
		cached, executed := stepsOf(out)
		if cached+executed == 0 || (cached == 0) != (listed == 1) {
			t.Errorf("%s: %d steps cached, %d run", what, cached, executed)
		}
		line := builds(t, gateway)[0]
		// The content that is told is all that the client sent, its Dockerfile too; files are those of its context. The daemon may
		// ask again for its Dockerfile, which nobody takes from the store; for nothing else.
		if again := bytes + size("Dockerfile"); listed > 1 && line["bytes_from_client"] == float64(again) {
			bytes = again
		}
		wanted := map[string]any{"directory": filepath.Base(directory), "executor": "tcp://" + daemon.Address, "result": "ok", "fault": "none",
			"files": 4.0, "files_changed": float64(changed), "bytes_from_client": float64(bytes), "steps_cached": float64(cached),
			"steps_executed": float64(executed), "replays": 0.0}
		for name, value := range wanted {
			if line[name] != value {
				t.Errorf("%s: %s is %v, not %v", what, name, line[name], value)
			}
		}
		if line["bytes_to_executor"] != float64(bytes) || line["bytes_from_store"] != 0.0 {
			t.Errorf("%s: %v to the executor, %v from the store, %v from the client", what, line["bytes_to_executor"], line["bytes_from_store"], bytes)
		}
	}
	expect("the first build", 1, 4, size("busybox", "src/nonce", "src/big", "src/small", "Dockerfile"))
	expect("an unchanged one", 2, 0, 0)
	putFiles(t, directory, files{"src/big": noise(1_000_001, 4)})
	expect("one with a file edited", 3, 1, size("src/big"))
}

// Every build leaves a line: one that went well, one whose step failed (the user's fault), one whose client left.
func TestBuildsAreListed(t *testing.T) {
	t.Parallel()
	needs(t, rig.Ledger)
	home, gateway, daemon := lone(t, 2)
	good := newContext(t, shell+"COPY src /src\n", nil)
	putFiles(t, good, files{"src/big": noise(1_000_000, 3)})
	home.MustRun(t, "buildx", "build", "--builder", "sluice", good)
	if _, err := home.Run("buildx", "build", "--builder", "sluice", newContext(t, shell+"RUN exit 3\n", nil)); err == nil {
		t.Error("it succeeded")
	}
	s := beginSleeper(t, home, "sluice")
	_ = s.Command.Process.Kill()
	rig.Eventually(t, 30*time.Second, "three builds are listed", func() bool { return len(builds(t, gateway)) == 3 })
	list := builds(t, gateway)
	for i, wanted := range []map[string]any{{"result": "cancelled", "fault": "client-gone"}, {"result": "failed", "fault": "user"},
		{"result": "ok", "fault": "none", "directory": filepath.Base(good), "error": ""}} {
		wanted["executor"] = "tcp://" + daemon.Address
		for name, value := range wanted {
			if list[i][name] != value {
				t.Errorf("%s is %v, not %v: %v", name, list[i][name], value, list[i])
			}
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
