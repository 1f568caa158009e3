package interop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

// sleeper is a build that sleeps in a RUN step until it is stopped; its step is found by its number.
type sleeper struct {
	*rig.Running
	seconds string
}

const asleep = "fast-asleep"

// sleeperContext makes a directory whose build sleeps that long, a number that names the step's process.
func sleeperContext(t *testing.T) (directory, seconds string) {
	t.Helper()
	seconds = fmt.Sprintf("%d", 100_000+rand.IntN(800_000))
	step := fmt.Sprintf("RUN echo fast-$(echo asleep) && sleep %s\n", seconds)
	return newContext(t, shell+step, nil), seconds
}

func beginSleeper(t *testing.T, home *rig.Home, builder string) *sleeper {
	t.Helper()
	directory, seconds := sleeperContext(t)
	s := &sleeper{Running: home.Begin(t, "buildx", "build", "--builder", builder, "--progress", "plain", directory), seconds: seconds}
	s.AwaitText(t, asleep)
	rig.Eventually(t, 20*time.Second, "the step sleeps", s.sleeping) // after its words it has still to be started
	return s
}

// process of the step; nil: there is none.
func (s *sleeper) process() *os.Process {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		if line, err := os.ReadFile(path); err == nil && bytes.HasSuffix(line, []byte("sleep\x00"+s.seconds+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			process, _ := os.FindProcess(pid)
			return process
		}
	}
	return nil
}

// sleeping tells whether the step's process is there.
func (s *sleeper) sleeping() bool { return s.process() != nil }

// Ctrl-C in mid-build: buildx ends within a second, the daemon stops the step, and nothing of it is left.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	home, gateway, daemon := lone(t, 1)
	home.MustRun(t, "buildx", "build", "--builder", "sluice", newContext(t, shell, nil))
	before := gateway.Gauges(t, daemon)
	s := beginSleeper(t, home, "sluice")
	_ = s.Command.Process.Signal(os.Interrupt)
	began := time.Now()
	if err := s.Wait(t, 20*time.Second); err == nil {
		t.Error("it succeeded")
	}
	if took := time.Since(began); took > interruptLimit() {
		t.Errorf("buildx took %v to end", took)
	}
	rig.Eventually(t, 20*time.Second, "the step is stopped", func() bool { return !s.sleeping() })
	gateway.Settles(t, before, daemon)
}

// A second for buildx to end; two through a gateway with sanitizers, which are slow. Where all tests share a machine, which may
// have other work besides, five times as long.
func interruptLimit() time.Duration {
	limit := time.Second
	if rig.Sanitized() {
		limit *= 2
	}
	if !rig.Soak() {
		limit *= 5
	}
	return limit
}

// A client that is killed: its build is stopped all the same.
func TestKilledClient(t *testing.T) {
	t.Parallel()
	p := shared(t)
	s := beginSleeper(t, p.home, "sluice")
	_ = s.Command.Process.Signal(syscall.SIGKILL)
	rig.Eventually(t, 20*time.Second, "the step is stopped", func() bool { return !s.sleeping() })
}

// A daemon that is killed, and no other to take over: the build fails as UNAVAILABLE naming it, and none waits for ever; a
// daemon that comes back serves the next build.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	s := beginSleeper(t, p.home, "sluice")
	p.behind.Kill()
	if err := s.Wait(t, 60*time.Second); err == nil || !strings.Contains(s.Output.String(), p.behind.Address) {
		t.Errorf("%v: %s", err, s.Output.Tail())
	}
	p.behind.Start(t)
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	p.home.MustRun(t, "buildx", "build", "--builder", "sluice", directory)
}
