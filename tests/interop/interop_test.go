// Package interop runs real builds, by stock buildx and buildctl, straight to a buildkitd and through sluice to the same
// one, and holds the results against each other.
//
// SLUICE_BINARY is the gateway, BUILDKIT_BIN the directory of buildkitd, buildctl and buildx; scripts/interop sets both.
package interop

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 2 * time.Minute

// process is a server that was started here and is stopped by its id.
type process struct {
	command *exec.Cmd
	output  bytes.Buffer
}

func start(t *testing.T, name string, arguments ...string) *process {
	t.Helper()
	p := &process{command: exec.Command(name, arguments...)}
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(syscall.SIGTERM) })
	return p
}

func (p *process) stop(signal syscall.Signal) {
	if p.command.ProcessState == nil {
		_ = p.command.Process.Signal(signal)
		_ = p.command.Wait()
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func awaitPort(t *testing.T, p *process, address string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
	}
	t.Fatalf("nobody listens on %s: %s", address, p.output.String())
}

// rig is one buildkitd, a gateway in front of it, and a client's home.
type rig struct {
	directory, daemon, gateway string
	buildkitd, sluice          *process
}

func newRig(t *testing.T) *rig {
	t.Helper()
	bin, sluice := os.Getenv("BUILDKIT_BIN"), os.Getenv("SLUICE_BINARY")
	if bin == "" || sluice == "" {
		t.Fatal("run this with `make interop`: SLUICE_BINARY and BUILDKIT_BIN are not set")
	}
	directory, err := os.MkdirTemp("/var/tmp", "sluice-interop-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{directory: directory, daemon: freePort(t)}
	t.Cleanup(func() { cleanUp(directory) })
	r.startDaemon(t)
	r.gateway = freePort(t)
	store := filepath.Join(directory, "store")
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(store, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	r.sluice = start(t, sluice, "serve", "--listen", "grpc://"+r.gateway, "--store", store, "--user", "nobody",
		"--slots", "0", "--ceiling", "1GB", "--buildkit", "tcp://"+r.daemon)
	awaitPort(t, r.sluice, r.gateway)
	for name, address := range map[string]string{"straight": r.daemon, "sluice": r.gateway} {
		if out, err := r.buildx("create", "--name", name, "--driver", "remote", "tcp://"+address); err != nil {
			t.Fatalf("buildx create: %v: %s", err, out)
		}
	}
	return r
}

func (r *rig) startDaemon(t *testing.T) {
	t.Helper()
	r.buildkitd = start(t, filepath.Join(os.Getenv("BUILDKIT_BIN"), "buildkitd"), "--root", filepath.Join(r.directory, "root"),
		"--addr", "tcp://"+r.daemon, "--oci-worker-snapshotter=overlayfs", "--containerd-worker=false")
	awaitPort(t, r.buildkitd, r.daemon)
}

// cleanUp unmounts what a daemon that was killed left behind, and removes all.
func cleanUp(directory string) {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	lines := strings.Split(string(mounts), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		fields := strings.Fields(lines[i])
		if len(fields) > 1 && strings.HasPrefix(fields[1], directory+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
	os.RemoveAll(directory)
}

func (r *rig) command(ctx context.Context, program string, arguments ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(os.Getenv("BUILDKIT_BIN"), program), arguments...)
	c.Dir = r.directory
	c.Env = append(os.Environ(), "BUILDX_CONFIG="+filepath.Join(r.directory, "buildx"), "BUILDX_GIT_INFO=false",
		"DOCKER_CONFIG="+filepath.Join(r.directory, "docker"), "BUILDX_NO_DEFAULT_ATTESTATIONS=1")
	return c
}

func (r *rig) buildx(arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := r.command(ctx, "buildx", arguments...).CombinedOutput()
	return string(out), err
}

func (r *rig) mustBuild(t *testing.T, arguments ...string) string {
	t.Helper()
	out, err := r.buildx(append([]string{"build", "--progress", "plain"}, arguments...)...)
	if err != nil {
		t.Fatalf("buildx build %v: %v\n%s\ngateway: %s", arguments, err, out, r.sluice.output.String())
	}
	return out
}

// context makes a build context of small files, one of 20 MB, links and a Dockerfile.
func (r *rig) context(t *testing.T, name, dockerfile string) string {
	t.Helper()
	directory := filepath.Join(r.directory, name)
	put := func(name string, content []byte, mode fs.FileMode) {
		path := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	put("busybox", busybox, 0o755)
	for i := 0; i < 500; i++ {
		put(fmt.Sprintf("src/d%d/f%d", i%20, i), fmt.Appendf(nil, "file %d\n", i), 0o644)
	}
	big := make([]byte, 20_000_000)
	for i, state := 0, uint32(1); i < len(big); i++ {
		state = state*1664525 + 1013904223
		big[i] = byte(state >> 24)
	}
	put("src/big", big, 0o600)
	put("Dockerfile", []byte(dockerfile), 0o644)
	put("secret", []byte("hush"), 0o600)
	for link, target := range map[string]string{"src/link": "big", "src/dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(directory, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(directory, "src/big"), filepath.Join(directory, "src/hard")); err != nil {
		t.Fatal(err)
	}
	return directory
}

const dockerfile = `FROM scratch AS base
COPY busybox /bin/busybox
SHELL ["/bin/busybox", "sh", "-c"]
RUN /bin/busybox --install -s /bin && echo built > /built
FROM base
COPY src /src
RUN --mount=type=secret,id=token echo "$(cat /run/secrets/token) $(ls /src | wc -l)" > /counted
`

// listing tells all of a tree that a build may change: names, modes, sizes, links, whole-second mtimes, and contents.
func listing(t *testing.T, directory string, times bool) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, directory)
		fmt.Fprintf(&out, "%s %v %d", name, info.Mode(), map[bool]int64{true: 0, false: info.Size()}[info.IsDir()])
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := uint64(14695981039346656037)
			for _, b := range content {
				sum = (sum ^ uint64(b)) * 1099511628211
			}
			fmt.Fprintf(&out, " %x", sum)
			if times {
				fmt.Fprintf(&out, " %d", info.ModTime().Unix())
			}
		} else if info.Mode()&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			fmt.Fprintf(&out, " -> %s", target)
		}
		out.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestBuilds(t *testing.T) {
	r := newRig(t)
	source := r.context(t, "context", dockerfile)
	secret := "id=token,src=" + filepath.Join(source, "secret")

	t.Run("workers", func(t *testing.T) {
		for _, address := range []string{r.daemon, r.gateway} {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			out, err := r.command(ctx, "buildctl", "--addr", "tcp://"+address, "debug", "workers").CombinedOutput()
			if err != nil || !strings.Contains(string(out), "linux/") {
				t.Fatalf("%v: %s", err, out)
			}
		}
	})
	t.Run("same files", func(t *testing.T) {
		lists := map[string]string{}
		for _, builder := range []string{"sluice", "straight"} {
			destination := filepath.Join(r.directory, "out-"+builder)
			r.mustBuild(t, "--builder", builder, "--secret", secret, "--output", "type=local,dest="+destination, source)
			lists[builder] = listing(t, destination, true)
			if counted, _ := os.ReadFile(filepath.Join(destination, "counted")); string(counted) != "hush 24\n" {
				t.Errorf("%s: counted %q", builder, counted)
			}
		}
		if lists["sluice"] != lists["straight"] || !strings.Contains(lists["sluice"], "/src/hard") {
			t.Errorf("through sluice:\n%.2000s\nstraight:\n%.2000s", lists["sluice"], lists["straight"])
		}
	})
	t.Run("cold, not from the daemon's cache", func(t *testing.T) {
		destination := filepath.Join(r.directory, "out-cold")
		r.mustBuild(t, "--builder", "sluice", "--no-cache", "--secret", secret, "--output", "type=local,dest="+destination, source)
		if listing(t, destination+"/src", true) != listing(t, filepath.Join(r.directory, "out-straight/src"), true) {
			t.Error("another tree")
		}
	})
	t.Run("cached the second time", func(t *testing.T) {
		out := r.mustBuild(t, "--builder", "sluice", "--secret", secret, source)
		if strings.Count(out, "CACHED") < 4 {
			t.Error(out)
		}
	})
	t.Run("exports", func(t *testing.T) {
		for _, kind := range []string{"tar", "oci"} {
			sizes := []int64{}
			for _, builder := range []string{"sluice", "straight"} {
				path := filepath.Join(r.directory, builder+"."+kind)
				r.mustBuild(t, "--builder", builder, "--secret", secret, "--output", "type="+kind+",dest="+path, source)
				if out, err := exec.Command("tar", "tf", path).CombinedOutput(); err != nil {
					t.Errorf("%s of %s: %s", kind, builder, out)
				}
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				sizes = append(sizes, info.Size())
			}
			if sizes[0] != sizes[1] {
				t.Errorf("%s: %d bytes through sluice, %d straight", kind, sizes[0], sizes[1])
			}
		}
	})
	t.Run("context on stdin", func(t *testing.T) {
		tar, err := exec.Command("tar", "-C", source, "-cf", "-", ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c := r.command(ctx, "buildx", "build", "--builder", "sluice", "--progress", "plain", "--secret", secret, "-")
		c.Stdin = bytes.NewReader(tar)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	t.Run("buildctl", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		out, err := r.command(ctx, "buildctl", "--addr", "tcp://"+r.gateway, "build", "--frontend", "dockerfile.v0", "--local",
			"context="+source, "--local", "dockerfile="+source, "--secret", secret, "--progress", "plain").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	t.Run("bake", func(t *testing.T) {
		var file strings.Builder
		names := []string{}
		for i := range 10 {
			names = append(names, fmt.Sprintf("t%d", i))
			fmt.Fprintf(&file, "target \"t%d\" {\n  context = %q\n  target = \"base\"\n  args = { N = \"%d\" }\n}\n", i, source, i)
		}
		path := filepath.Join(r.directory, "bake.hcl")
		if err := os.WriteFile(path, []byte(file.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := r.buildx(append([]string{"bake", "--builder", "sluice", "--progress", "plain", "--allow", "fs.read=*", "-f", path}, names...)...)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	t.Run("a failing step", func(t *testing.T) {
		broken := r.context(t, "broken", strings.Replace(dockerfile, "echo built > /built", "exit 7", 1))
		lines := map[string]string{}
		for _, builder := range []string{"sluice", "straight"} {
			out, err := r.buildx("build", "--builder", builder, "--progress", "plain", broken)
			exit, ok := err.(*exec.ExitError)
			if !ok || exit.ExitCode() != 1 {
				t.Errorf("%s: %v", builder, err)
			}
			for _, line := range strings.Split(out, "\n") {
				if strings.HasPrefix(line, "ERROR: failed to build") {
					lines[builder] = line
				}
			}
		}
		if lines["sluice"] != lines["straight"] || !strings.Contains(lines["sluice"], "exit code: 7") {
			t.Errorf("%q", lines)
		}
	})
	t.Run("other commands", func(t *testing.T) {
		for _, arguments := range [][]string{{"ls"}, {"inspect", "sluice"}, {"du", "--builder", "sluice"},
			{"history", "ls", "--builder", "sluice"}, {"prune", "-f", "--builder", "sluice", "--filter", "type=regular"}} {
			if out, err := r.buildx(arguments...); err != nil {
				t.Errorf("buildx %v: %v: %s", arguments, err, out)
			}
		}
	})
}

// A build that sleeps in a RUN step, begun; ready when the step runs.
func (r *rig) sleeper(t *testing.T) (*exec.Cmd, *bytes.Buffer, chan error) {
	t.Helper()
	source := r.context(t, "sleeper", strings.Replace(dockerfile, "echo built > /built", "echo asleep-now && sleep 60", 1))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	c := r.command(ctx, "buildx", "build", "--builder", "sluice", "--progress", "plain", "--no-cache", source)
	reader, writer := pipe(t)
	c.Stdout, c.Stderr = writer, writer
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	output, ended, asleep := &bytes.Buffer{}, make(chan error, 1), make(chan bool, 1)
	go func() {
		chunk := make([]byte, 4096)
		for told := false; ; {
			n, err := reader.Read(chunk)
			output.Write(chunk[:n])
			if !told && strings.Contains(output.String(), " asleep-now") {
				told = true
				asleep <- true
			}
			if err != nil {
				break
			}
		}
		ended <- c.Wait()
	}()
	select {
	case <-asleep:
	case err := <-ended:
		t.Fatalf("it ended: %v: %s", err, output)
	case <-time.After(patience):
		t.Fatal("the step did not begin")
	}
	return c, output, ended
}

func pipe(t *testing.T) (*os.File, *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	return reader, writer
}

func (r *rig) sleeping() bool {
	out, _ := exec.Command("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").Output()
	return strings.Contains(string(out), "sleep 60")
}

// Ctrl-C: buildx goes, and the daemon stops the step.
func TestCancel(t *testing.T) {
	r := newRig(t)
	c, output, ended := r.sleeper(t)
	if !r.sleeping() {
		t.Fatal("nothing sleeps")
	}
	began := time.Now()
	_ = c.Process.Signal(os.Interrupt)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatalf("buildx did not end: %s", output)
	}
	t.Logf("buildx ended after %v", time.Since(began))
	for end := time.Now().Add(20 * time.Second); r.sleeping(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the step still runs")
		}
	}
}

// A daemon that is killed: the build ends, naming it; one that is started again serves the next build.
func TestKilledDaemon(t *testing.T) {
	r := newRig(t)
	_, output, ended := r.sleeper(t)
	r.buildkitd.stop(syscall.SIGKILL)
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(output.String(), "executor tcp://"+r.daemon+" was lost") {
			t.Errorf("%v: %s", err, output)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("buildx did not end: %s", output)
	}
	// buildx tries for 20 s to reach a daemon, also without a gateway, and then says no more than that. buildctl says it.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := r.command(ctx, "buildctl", "--addr", "tcp://"+r.gateway, "debug", "workers").CombinedOutput()
	if err == nil || !strings.Contains(string(out), r.daemon) {
		t.Errorf("no daemon, and: %v: %s", err, out)
	}
	r.context(t, "next", dockerfile)
	r.startDaemon(t)
	r.mustBuild(t, "--builder", "sluice", "--target", "base", filepath.Join(r.directory, "next"))
}
