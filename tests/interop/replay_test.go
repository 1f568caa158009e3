package interop

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

// fleet is a pool of real daemons that can be killed, and a client's home.
type fleet struct {
	daemons []*rig.Daemon
	gateway *rig.Gateway
	home    *rig.Home
}

func newFleet(t *testing.T, daemons, slots int, arguments ...string) *fleet {
	t.Helper()
	f := &fleet{home: rig.NewHome(t)}
	executors := []string{}
	for range daemons {
		daemon := rig.NewDaemon(t)
		f.daemons = append(f.daemons, daemon)
		executors = append(executors, rig.Executor(daemon.Address, slots))
	}
	f.gateway = rig.NewGateway(t, rig.GatewayOptions{Executors: executors, Arguments: arguments})
	f.home.AddBuilder(t, "sluice", "tcp://"+f.gateway.Address)
	return f
}

// gauges and settles are those of the gateway, and what is left on the machine of daemons that have not been killed. A build goes
// before: what the gateway opens for the first of all stays open.
func (f *fleet) gauges(t *testing.T) map[string]float64 {
	t.Helper()
	f.home.MustRun(t, "buildx", "build", "--builder", "sluice", newContext(t, shell, nil))
	return f.gateway.Gauges(t, f.daemons...)
}

func (f *fleet) settles(t *testing.T, before map[string]float64, killed ...*rig.Daemon) {
	t.Helper()
	living := slices.Clone(f.daemons)
	for _, daemon := range killed {
		maps.DeleteFunc(before, func(name string, _ float64) bool { return strings.HasSuffix(name, daemon.Address) })
		living = slices.DeleteFunc(living, func(one *rig.Daemon) bool { return one == daemon })
	}
	f.gateway.Settles(t, before, living...)
}

func safeReplay() []string {
	return []string{rig.ReplayOption(), "safe"}
}

// The daemon dies in a RUN step: the build finishes at another one, says so, and fails nowhere.
func TestReplay(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool, rig.Replay)
	f := newFleet(t, 2, 2, safeReplay()...)
	before := f.gauges(t)
	base := rig.Directory(t)
	// The step takes long enough to be killed in it.
	directory := newContext(t, shell+"COPY src /src\nRUN echo fast-$(echo asleep) && sleep 6 && echo done > /done\n", nil)
	oddTree(t, directory)
	out := filepath.Join(base, "out")
	build := f.home.Begin(t, "buildx", "build", "--builder", "sluice", "--progress", "plain", "--output", "type=local,dest="+out, directory)
	build.AwaitText(t, asleep)
	victim := 0
	for i, daemon := range f.daemons {
		if daemon.Runs("6") {
			victim = i
		}
	}
	f.daemons[victim].Kill()
	if err := build.Wait(t, rig.Patience); err != nil {
		t.Fatalf("%v: %s", err, build.Output.Tail())
	}
	if text := build.Output.String(); !strings.Contains(text, f.daemons[victim].Address+" lost, replaying on") {
		t.Errorf("it does not say so: %s", text)
	}
	straight := newPair(t)
	wanted := filepath.Join(base, "wanted")
	straight.home.MustRun(t, "buildx", "build", "--builder", "straight", "--output", "type=local,dest="+wanted, directory)
	if got, expected := listing(t, out), listing(t, wanted); got != expected {
		t.Errorf("another tree:\n%s\n%s", got, expected)
	}
	f.settles(t, before, f.daemons[victim])
}

// beginOn starts a build on a daemon that is known, as the only other one is taken, and says which. `free` lets that one go.
func beginOn(t *testing.T, f *fleet, arguments ...string) (build *rig.Running, victim *rig.Daemon, free func()) {
	t.Helper()
	s := beginSleeper(t, f.home, "sluice")
	victim = f.daemons[0]
	if victim.Runs(s.seconds) {
		victim = f.daemons[1]
	}
	build = f.home.Begin(t, "buildx", append([]string{"build", "--builder", "sluice", "--progress", "plain"}, arguments...)...)
	return build, victim, func() { _ = s.Command.Process.Signal(os.Interrupt) }
}

// The daemon dies while the context goes there, or while the result comes from it.
func TestReplayInTransfer(t *testing.T) {
	needs(t, rig.Pool, rig.Replay)
	const size = 200 << 20
	for moment, text := range map[string]string{"context": "transferring context:", "export": "copying files"} {
		t.Run(moment, func(t *testing.T) {
			f := newFleet(t, 2, 1, safeReplay()...)
			before := f.gauges(t)
			directory := newContext(t, "FROM scratch\nCOPY src /src\n", files{"src/large": noise(size, 3)})
			out := filepath.Join(rig.Directory(t), "out")
			build, victim, free := beginOn(t, f, "--output", "type=local,dest="+out, directory)
			build.AwaitText(t, text)
			victim.Kill()
			free()
			if err := build.Wait(t, rig.Patience); err != nil {
				t.Fatalf("%v: %s", err, build.Output.Tail())
			}
			if told := build.Output.String(); !strings.Contains(told, victim.Address+" lost, replaying on") {
				t.Errorf("it does not say so: %s", told)
			}
			if got, wanted := listing(t, filepath.Join(out, "src")), listing(t, filepath.Join(directory, "src")); got != wanted {
				t.Errorf("another tree:\n%s\n%s", got, wanted)
			}
			f.settles(t, before, victim)
		})
	}
}

// streamed is a build whose context comes from stdin, and the daemon that is killed as soon as it runs the step.
func streamed(t *testing.T, f *fleet, tar []byte, seconds string, arguments ...string) (told string, victim *rig.Daemon, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	c := f.home.Command(ctx, "buildx", append(append([]string{"build", "--builder", "sluice", "--progress", "plain"}, arguments...), "-")...)
	c.Stdin = bytes.NewReader(tar)
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for victim == nil && ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			for _, daemon := range f.daemons {
				if daemon.Runs(seconds) {
					victim = daemon
					daemon.Kill()
				}
			}
		}
	}()
	out, err := c.CombinedOutput()
	cancel()
	<-killed
	if victim == nil {
		t.Fatalf("no daemon ran the step: %v: %s", err, out)
	}
	return string(out), victim, err
}

func tarOf(t *testing.T, directory string) []byte {
	t.Helper()
	tar, err := exec.Command("tar", "-C", directory, "-cf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return tar
}

// A context that comes once is there for another daemon when the one that read it is killed.
func TestReplayOfAStream(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool, rig.Replay)
	f := newFleet(t, 2, 2, safeReplay()...)
	before := f.gauges(t)
	directory := newContext(t, shell+"COPY src /src\nRUN sleep 5 && wc -c </src/large >/made\n", files{"src/large": noise(20<<20, 5)})
	out := filepath.Join(rig.Directory(t), "out")
	told, victim, err := streamed(t, f, tarOf(t, directory), "5", "--output", "type=local,dest="+out)
	if err != nil || !strings.Contains(told, victim.Address+" lost, replaying on") {
		t.Errorf("%v: %s", err, told)
	}
	if got, wanted := listing(t, filepath.Join(out, "src")), listing(t, filepath.Join(directory, "src")); got != wanted {
		t.Errorf("another tree:\n%s\n%s", got, wanted)
	}
	f.settles(t, before, victim)
}

// One that is longer than the gateway keeps is gone with the daemon that read it: the build ends, with that one's name.
func TestReplayOfALongStreamIsRefused(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool, rig.Replay)
	f := newFleet(t, 2, 2, safeReplay()...)
	before := f.gauges(t)
	directory := newContext(t, shell+"COPY src /src\nRUN sleep 8\n", files{"src/large": noise(70<<20, 6)})
	told, victim, err := streamed(t, f, tarOf(t, directory), "8")
	if err == nil || !strings.Contains(told, victim.Address) || strings.Contains(told, "replaying") {
		t.Errorf("%v: %s", err, told)
	}
	f.settles(t, before, victim)
}

// Many builds while daemons are killed at random. Each build that may be done again succeeds, unless it is hit too often; where
// the gateway does no such thing each ends, well or as UNAVAILABLE with the executor's name. Nothing waits for ever, and nothing
// is left.
func TestRandomKills(t *testing.T) {
	needs(t, rig.Pool)
	builds, kills := 5, 1
	if rig.Soak() {
		builds, kills = 100, 20
	}
	arguments := []string{}
	replays := rig.Has(rig.Replay)
	if replays {
		arguments = safeReplay()
	}
	f := newFleet(t, 3, 2, arguments...)
	before := f.gauges(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	var mutex sync.Mutex
	hits, failures := 0, 0
	var all sync.WaitGroup
	room := make(chan struct{}, 4)
	stop := make(chan struct{})
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(200+random.IntN(800)) * time.Millisecond):
			}
			mutex.Lock()
			enough := hits >= 2*kills
			mutex.Unlock()
			// One of those that run a step now, from a random one on.
			first := random.IntN(len(f.daemons))
			for i := range f.daemons {
				daemon := f.daemons[(first+i)%len(f.daemons)]
				if enough || !daemon.Runs(stepSeconds) {
					continue
				}
				daemon.Kill()
				mutex.Lock()
				hits++
				mutex.Unlock()
				time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
				daemon.Start(t)
				break
			}
		}
	}()
	for i := range builds {
		room <- struct{}{}
		all.Add(1)
		directory := newContext(t, shell+fmt.Sprintf("COPY src /src\nRUN echo %d && sleep %s && cat /src/nonce > /made\n", i, stepSeconds), nil)
		out := filepath.Join(rig.Directory(t), "out")
		go func() {
			defer func() { <-room; all.Done() }()
			told, err := f.home.Run("buildx", "build", "--builder", "sluice", "--progress", "plain", "--output", "type=local,dest="+out,
				directory)
			mutex.Lock()
			defer mutex.Unlock()
			if err == nil {
				nonce, _ := os.ReadFile(filepath.Join(directory, "src/nonce"))
				if made, _ := os.ReadFile(filepath.Join(out, "made")); string(made) != string(nonce) {
					t.Errorf("build %d: it made %q", i, made)
				}
				return
			}
			failures++
			beyond := strings.Count(told, "lost, replaying on") == replaysMax
			if replays && !beyond || !namesExecutor(told, f.daemons) {
				t.Errorf("build %d: %v: %s", i, err, told)
			}
		}()
	}
	all.Wait()
	close(stop)
	<-killed
	t.Logf("%d builds, %d kills hit a running build, %d builds failed", builds, hits, failures)
	if hits < kills {
		t.Errorf("only %d kills hit a running build", hits)
	}
	f.settles(t, before)
}

// So often a build is done again. Under kills as quick as these some are hit more often, and end as those that may not be.
const replaysMax = 2

// How long a step of the builds that are killed sleeps, as `sleep` is told it.
const stepSeconds = "3"

func namesExecutor(text string, daemons []*rig.Daemon) bool {
	for _, daemon := range daemons {
		if strings.Contains(text, daemon.Address) && strings.Contains(text, "Unavailable") {
			return true
		}
	}
	return false
}
