package interop

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

// spawning is a command line under which the gateway starts the daemons itself.
func spawning(t *testing.T, more ...string) []string {
	t.Helper()
	if _, err := exec.LookPath("slirp4netns"); err != nil {
		t.Fatal("slirp4netns is not installed: `make deps` does it")
	}
	path := filepath.Join(rig.Directory(t), "x") // short: a unix socket's path has 107 bytes
	t.Cleanup(func() { removeCgroups(path) })
	return append([]string{"--spawn", "--buildkitd", filepath.Join(rig.Setting(t, "BUILDKIT_BIN"), "buildkitd"),
		"--executor-path", path}, more...)
}

// removeCgroups takes away what a host that was killed has left for the next one at the same path, which does not come.
func removeCgroups(path string) {
	hash := sha256.Sum256([]byte(path))
	left, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/sluice-buildkit/*-%x", hash[:4]))
	all, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/sluice-buildkit/*-%x", hash[:4]))
	for _, top := range append(left, all...) {
		directories := []string{}
		_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, _ error) error {
			if entry != nil && entry.IsDir() {
				directories = append(directories, path)
			}
			return nil
		})
		for i := len(directories) - 1; i >= 0; i-- {
			_ = syscall.Rmdir(directories[i])
		}
	}
}

// below are the descendants of a process that run `program`.
func below(t *testing.T, ancestor int, program string) []int {
	t.Helper()
	parents, found := map[int]int{}, []int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])); len(fields) > 1 {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	for pid := range parents {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if string(line) == "" || strings.Split(string(line), "\x00")[0] != program {
			continue
		}
		for at := pid; at > 1; at = parents[at] {
			if at == ancestor {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

const daemonProgram = "/sluice/buildkitd" // as the daemon's namespace has it

// untilContext is how long a client waits from its start until the first byte of its context is on the way.
func untilContext(t *testing.T, home *rig.Home, address, directory string) time.Duration {
	t.Helper()
	begin := time.Now()
	out := home.MustRun(t, "buildctl", "--addr", "tcp://"+address, "build", "--progress", "rawjson", "--frontend", "dockerfile.v0",
		"--local", "context="+directory, "--local", "dockerfile="+directory)
	var last time.Time // that of .dockerignore comes before
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var update struct {
			Statuses []struct {
				ID      string     `json:"id"`
				Started *time.Time `json:"started"`
			} `json:"statuses"`
		}
		if json.Unmarshal(lines.Bytes(), &update) != nil {
			continue
		}
		for _, status := range update.Statuses {
			if strings.HasPrefix(status.ID, "transferring context") && status.Started != nil && status.Started.After(last) {
				last = *status.Started
			}
		}
	}
	if last.IsZero() {
		t.Fatalf("no context was transferred: %s", out)
	}
	return last.Sub(begin)
}

// A daemon is started for the first build, kept for the next, and stopped when it is idle; its cache outlives it.
func TestSpawnedDaemonComesAndGoes(t *testing.T) {
	t.Parallel()
	gateway := rig.NewGateway(t, rig.GatewayOptions{Arguments: spawning(t, "--spawn-idle", "2s")})
	home := rig.NewHome(t)
	directory := newContext(t, shell+"RUN echo built > /built\n", nil)
	pid := gateway.Process().Pid()
	if running := below(t, pid, daemonProgram); len(running) != 0 {
		t.Fatalf("nobody has asked yet, and there is %v", running)
	}
	cold := untilContext(t, home, gateway.Address, directory)
	t.Logf("from the client's start to its context, with no daemon: %v", cold)
	if limit := 3 * time.Second; cold > limit && !rig.Sanitized() {
		t.Errorf("cold start took %v, more than %v", cold, limit)
	}
	if running := below(t, pid, daemonProgram); len(running) != 1 {
		t.Fatalf("one daemon was expected, there is %v", running)
	}
	rig.Eventually(t, time.Minute, "the idle daemon has gone", func() bool { return len(below(t, pid, daemonProgram)) == 0 })
	home.AddBuilder(t, "spawn", "tcp://"+gateway.Address)
	out := home.MustRun(t, "buildx", "build", "--progress", "plain", "--builder", "spawn", directory)
	if !strings.Contains(out, "RUN echo built > /built\n") || !strings.Contains(out, "CACHED") {
		t.Errorf("the next daemon of the tenant does not know what the last one built: %s", out)
	}
}

// reach is a step that tells which of the addresses answer.
func reach(targets map[string]string) string {
	step := "RUN true"
	for name, target := range targets {
		host, port, _ := net.SplitHostPort(target)
		step += fmt.Sprintf("; if printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 %s %s | grep -q HTTP; then echo reached-%s; "+
			"else echo closed-%s; fi", host, port, name, name)
	}
	return step + "\n"
}

// Neither by a RUN step nor by the API does a tenant reach what another one has: history, content, cache mounts, sockets.
// Nor does a step reach the gateway's admin port, or another service of the host's loopback.
func TestSpawnedTenantsAreApart(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	certificate := ca.issue(t, "--server", "--name", "127.0.0.1")
	if err := os.Chown(filepath.Join(certificate, "key.pem"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	gateway := rig.NewGateway(t, rig.GatewayOptions{Scheme: "grpcs", Arguments: append(spawning(t),
		"--tls-cert", filepath.Join(certificate, "cert.pem"), "--tls-key", filepath.Join(certificate, "key.pem"),
		"--tls-ca", filepath.Join(certificate, "ca.pem"), "--tls-require-client")})
	home := rig.NewHome(t)
	for _, tenant := range []string{"red", "blue"} {
		home.AddBuilder(t, tenant, "tcp://"+gateway.Address, options(ca.client(t, tenant))...)
	}

	metadata := filepath.Join(home.Directory, "metadata.json")
	directory := newContext(t, shell+"COPY src /red-content\nRUN --mount=type=cache,id=shared,target=/cache echo red-secret > /cache/red\n", nil)
	home.MustRun(t, "buildx", "build", "--builder", "red", "--metadata-file", metadata, directory)
	if out := home.MustRun(t, "buildx", "du", "--verbose", "--builder", "red"); !strings.Contains(out, "/red-content") {
		t.Fatalf("red does not see its own: %s", out)
	}
	var told map[string]any
	if text, err := os.ReadFile(metadata); err != nil || json.Unmarshal(text, &told) != nil {
		t.Fatal(err)
	}
	ref, _ := told["buildx.build.ref"].(string)
	ref = ref[strings.LastIndex(ref, "/")+1:]
	if out := home.MustRun(t, "buildx", "history", "ls", "--builder", "red"); ref == "" || !strings.Contains(out, ref) {
		t.Fatalf("red does not see its own build %q: %s", ref, out)
	}

	host, port, _ := net.SplitHostPort(gateway.Admin)
	if response, err := http.Get("http://" + gateway.Admin + "/metrics"); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("the admin port does not answer at all: %v", err)
	}
	step := reach(map[string]string{
		"own": net.JoinHostPort(host, port), "host": "10.0.2.2:" + port, "names": "10.0.2.3:" + port, "other": "10.0.2.15:" + port,
	})
	directory = newContext(t, shell+"RUN --mount=type=cache,id=shared,target=/cache echo mount: $(ls /cache)\n"+
		"RUN echo sockets: $(find / -xdev -name sock; find / -xdev -name executor.sock)\n"+step, nil)
	out := home.MustRun(t, "buildx", "build", "--progress", "plain", "--builder", "blue", directory)
	for _, name := range []string{"own", "host", "names", "other"} {
		if strings.Contains(out, " reached-"+name+"\n") || !strings.Contains(out, " closed-"+name+"\n") {
			t.Errorf("a step reaches the admin port, as %s: %s", name, out)
		}
	}
	if !strings.Contains(out, " mount:\n") || !strings.Contains(out, " sockets:\n") {
		t.Errorf("blue's steps see what is red's: %s", out)
	}
	if out := home.MustRun(t, "buildx", "du", "--verbose", "--builder", "blue"); strings.Contains(out, "red-") {
		t.Errorf("blue sees red's cache: %s", out)
	}
	if out := home.MustRun(t, "buildx", "history", "ls", "--builder", "blue"); strings.Contains(out, ref) {
		t.Errorf("blue sees red's history: %s", out)
	}
	if out, err := home.Run("buildx", "history", "inspect", "--builder", "blue", ref); err == nil {
		t.Errorf("blue inspects red's build: %s", out)
	}
	// Each daemon in its own namespaces, all of them other ones than ours.
	daemons := below(t, gateway.Process().Pid(), daemonProgram)
	if len(daemons) != 2 {
		t.Fatalf("two daemons were expected: %v", daemons)
	}
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		seen := map[string]bool{}
		for _, pid := range append(daemons, os.Getpid()) {
			link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
			if err != nil || seen[link] {
				t.Errorf("%s namespace of %d: %q, which another one has, %v", kind, pid, link, err)
			}
			seen[link] = true
		}
	}
}

// A RUN step and the daemon itself reach an HTTP server in another network namespace, as they would one on another machine.
func TestSpawnedStepReachesOtherNetworks(t *testing.T) {
	t.Parallel()
	listener := rig.ListenElsewhere(t)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "from elsewhere")
	})}
	go func() { _ = server.Serve(listener) }()
	gateway := rig.NewGateway(t, rig.GatewayOptions{Arguments: spawning(t)})
	home := rig.NewHome(t)
	home.AddBuilder(t, "spawn", "tcp://"+gateway.Address)
	address := listener.Addr().String()
	directory := newContext(t, shell+reach(map[string]string{"elsewhere": address})+
		"ADD http://"+address+"/file /file\nRUN echo added: $(cat /file)\n", nil)
	out := home.MustRun(t, "buildx", "build", "--progress", "plain", "--builder", "spawn", directory)
	if !strings.Contains(out, " reached-elsewhere\n") {
		t.Errorf("the step did not reach it: %s", out)
	}
	if !strings.Contains(out, "added: from elsewhere\n") {
		t.Errorf("the daemon did not reach it: %s", out)
	}
}

// buildkitd is killed under a RUN step. Nothing of it is left, and the next build has the tenant's cache and no step of the
// killed one still runs.
func TestSpawnedDaemonIsKilled(t *testing.T) {
	t.Parallel()
	arguments := spawning(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Arguments: arguments})
	home := rig.NewHome(t)
	home.AddBuilder(t, "spawn", "tcp://"+gateway.Address)
	pid := gateway.Process().Pid()
	directory := newContext(t, shell+"RUN echo built > /built\n", nil)
	home.MustRun(t, "buildx", "build", "--builder", "spawn", directory)

	slow := newContext(t, shell+"RUN echo as''leep; sleep 3217\n", nil)
	running := home.Begin(t, "buildx", "build", "--progress", "plain", "--builder", "spawn", slow)
	running.AwaitText(t, "asleep")
	daemons := below(t, pid, daemonProgram)
	if len(daemons) != 1 {
		t.Fatalf("one daemon was expected: %v", daemons)
	}
	if err := syscall.Kill(daemons[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 30*time.Second, "the step has gone with its daemon", func() bool {
		return len(below(t, pid, "sleep")) == 0
	})
	_ = running.Command.Process.Signal(os.Interrupt)
	_ = running.Wait(t, time.Minute)

	out := home.MustRun(t, "buildx", "build", "--progress", "plain", "--builder", "spawn", directory)
	if !strings.Contains(out, "CACHED") {
		t.Errorf("the killed daemon's cache is lost: %s", out)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	if path := arguments[len(arguments)-1]; strings.Contains(string(mounts), path) {
		t.Errorf("mounts are left below %s: %s", path, mounts)
	}
}

// The executor host is killed. Nothing that it started outlives it, the build under way ends, and the next one is refused at
// once: without its host the gateway starts no daemon.
func TestSpawnedDaemonDiesWithItsHost(t *testing.T) {
	t.Parallel()
	gateway := rig.NewGateway(t, rig.GatewayOptions{Arguments: spawning(t)})
	home := rig.NewHome(t)
	home.AddBuilder(t, "spawn", "tcp://"+gateway.Address)
	pid := gateway.Process().Pid()
	running := home.Begin(t, "buildx", "build", "--progress", "plain", "--builder", "spawn",
		newContext(t, shell+"RUN echo as''leep; sleep 3217\n", nil))
	running.AwaitText(t, "asleep")
	started := append(below(t, pid, daemonProgram), below(t, pid, "sleep")...)
	for _, program := range []string{"/usr/bin/slirp4netns", "/sluice/init"} {
		started = append(started, below(t, pid, program)...)
	}
	if len(started) < 4 {
		t.Fatalf("a daemon, its init, its way out and its step were expected: %v", started)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	host, _ := strconv.Atoi(strings.Fields(string(children) + " 0")[0])
	if err != nil || host < 2 {
		t.Fatalf("the gateway has no child: %v", err)
	}
	if err := syscall.Kill(host, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 30*time.Second, "all that the host started has gone", func() bool {
		for _, pid := range started {
			if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(state) > 0 {
				return false
			}
		}
		return true
	})
	if err := running.Wait(t, time.Minute); err == nil {
		t.Error("the build whose daemon was killed succeeded")
	}
	if out, err := home.Run("buildx", "build", "--builder", "spawn", newContext(t, "FROM scratch\nCOPY src /\n", nil)); err == nil {
		t.Errorf("a build without a daemon: %s", out)
	}
}
