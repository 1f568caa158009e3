package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/tests/interop/rig"
)

const dockerfile = "FROM scratch\nCOPY . /ctx\n"

// site is a line with an edge at its near end and its gateway at the far one, a daemon behind that, and a daemon that stock
// buildx reaches over the same line.
type site struct {
	b     *bench
	link  *rig.Link
	mtime string

	behind, straight *rig.Daemon
	gateway          *rig.Gateway
	edge             *rig.Edge
	home             *rig.Home
	// What the line carries to the gateway and to the straight daemon. Nil on loopback, where all is direct: a proxy would cost
	// time, and bytes are the same over any line.
	wire, straightWire *rig.Proxy
	// The line to a new gateway is cut each time so many bytes have passed; 0: never.
	cutEvery int64
	failed   bool // a command, while the line was cut

	recipe, empty string // a Dockerfile outside the tree; a directory with nothing in it
}

func newSite(b *bench, shape rig.Shape, mtime string) *site {
	s := &site{b: b, link: rig.NewLink(b.scope, shape), mtime: mtime, behind: rig.NewDaemon(b.scope), straight: rig.NewDaemon(b.scope)}
	s.recipe = filepath.Join(rig.Directory(b.scope), "Dockerfile")
	if err := os.WriteFile(s.recipe, []byte(dockerfile), 0o644); err != nil {
		b.scope.Fatalf("%v", err)
	}
	s.empty = filepath.Join(rig.Directory(b.scope), filepath.Base(b.tree))
	if err := os.Mkdir(s.empty, 0o755); err != nil {
		b.scope.Fatalf("%v", err)
	}
	s.renew()
	return s
}

// renew is a gateway and an edge that have nothing.
func (s *site) renew() {
	if s.edge != nil {
		s.edge.Stop(s.b.scope)
		s.gateway.Stop(s.b.scope)
		os.RemoveAll(s.edge.Store)
		os.RemoveAll(s.gateway.Store)
	}
	s.gateway = rig.NewGateway(s.b.scope, rig.GatewayOptions{Executors: []string{rig.Executor(s.behind.Address, 16)}})
	upstream := s.gateway.Address
	if s.shaped() {
		s.wire = s.link.To(s.b.scope, s.gateway.Address)
		upstream = s.wire.Address
		if s.cutEvery > 0 {
			s.wire.CutEvery(s.b.seed, s.cutEvery, s.b.cuts)
		}
	}
	if s.shaped() && s.straightWire == nil {
		s.straightWire = s.link.To(s.b.scope, s.straight.Address)
	}
	s.edge = rig.NewEdge(s.b.scope, rig.EdgeOptions{Upstream: upstream, Mtime: s.mtime, Link: s.link})
	s.newHome()
	s.awaitReady()
}

func (s *site) shaped() bool { return s.link.Shape.Megabits > 0 }

// newHome is a client that no server has seen: to buildkitd another machine.
func (s *site) newHome() {
	s.home = rig.NewHome(s.b.scope)
	s.home.AddBuilder(s.b.scope, "edge", s.edge.Address())
	address := s.straight.Address
	if s.shaped() {
		address = s.straightWire.Address
	}
	s.home.AddBuilder(s.b.scope, "straight", "tcp://"+address)
}

// newRunner is a machine that has just been made: an edge and a client that know nothing.
func (s *site) newRunner() {
	s.edge.Refresh(s.b.scope)
	s.newHome()
}

// awaitReady waits until the gateway takes its daemon for healthy.
func (s *site) awaitReady() {
	for range 2 {
		s.gateway.Gauges(s.b.scope)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		ready, known := s.gateway.Metrics(s.b.scope)["sluice_executors_ready"]
		if !known || ready >= 1 {
			return
		}
		if time.Now().After(end) {
			s.b.scope.Fatalf("the gateway does not find its daemon healthy")
		}
	}
}

// close ends what costs the next site time and room.
func (s *site) close() {
	s.edge.Stop(s.b.scope)
	s.gateway.Stop(s.b.scope)
	os.RemoveAll(s.edge.Store)
	os.RemoveAll(s.gateway.Store)
	for _, daemon := range []*rig.Daemon{s.behind, s.straight} {
		daemon.Discard()
	}
}

func (s *site) build(way, tree string) table.Sample {
	return s.measure(way, s.client("buildx", "build", "--builder", way, "--progress", "rawjson", "-f", s.recipe, tree), table.ContextSeconds)
}

// client's command at the near end of the line.
func (s *site) client(program string, arguments ...string) *exec.Cmd {
	c := s.home.Command(context.Background(), program, arguments...)
	entered := s.link.Enter(append([]string{c.Path}, c.Args[1:]...))
	command := exec.Command(entered[0], entered[1:]...)
	command.Dir, command.Env = c.Dir, c.Env
	return command
}

func (s *site) floor() table.Sample {
	command := exec.Command(rig.Setting(s.b.scope, "FLOOR_BINARY"), s.straight.Address, s.b.tree)
	return s.measure("floor", command, func(out []byte, _ time.Duration) (float64, error) {
		var told struct {
			Seconds float64 `json:"context_seconds"`
		}
		err := json.Unmarshal(out, &told)
		return told.Seconds, err
	})
}

// counts of the line that a way goes over.
func (s *site) counts(way string) rig.Counts {
	switch {
	case !s.shaped() || way == "floor":
		return rig.Counts{}
	case way == "straight":
		return s.straightWire.Counts()
	default:
		return s.wire.Counts()
	}
}

// measure runs a client's command and reads clocks and counters around it.
func (s *site) measure(way string, command *exec.Cmd, seconds func(out []byte, took time.Duration) (float64, error)) table.Sample {
	syscall.Sync() // no run pays for what another left to the disk
	var out, trouble bytes.Buffer
	command.Stdout, command.Stderr = &out, &out // buildx writes its progress to the latter
	if way == "floor" {
		command.Stderr = &trouble
	}
	daemon := s.behind
	if way != "edge" {
		daemon = s.straight
	}
	cpu := func() table.Sample {
		return table.Sample{Gateway: rig.CPUSeconds(s.gateway.Process().Pid()), Edge: rig.CPUSeconds(s.edge.Process().Pid()),
			Daemon: rig.CPUSeconds(daemon.Process().Pid())}
	}
	before, counted, began := cpu(), s.counts(way), time.Now()
	if err := command.Run(); err != nil && s.cutEvery > 0 { // that it fails is what the row tells
		s.b.Note("it failed: %v: %s%s", err, tail(out.String()), trouble.String())
		s.failed = true
		return table.Sample{Wall: time.Since(began).Seconds()}
	} else if err != nil {
		s.b.scope.Fatalf("%s: %v: %s%s\nedge: %s\ngateway: %s", way, err, tail(out.String()), trouble.String(), s.edge.Process().Log().Tail(),
			s.gateway.Process().Log().Tail())
	}
	took := time.Since(began)
	carried, after := s.counts(way).Since(counted), cpu()
	value, err := seconds(out.Bytes(), took)
	if err != nil {
		s.b.scope.Fatalf("%s: %v: %s", way, err, tail(out.String()))
	}
	state := command.ProcessState
	return table.Sample{Wall: value, Command: took.Seconds(), Client: (state.UserTime() + state.SystemTime()).Seconds(),
		Gateway: after.Gateway - before.Gateway, Edge: after.Edge - before.Edge, Daemon: after.Daemon - before.Daemon,
		Up: carried.Up, Down: carried.Down}
}

func tail(text string) string { return text[max(0, len(text)-3000):] }

// forwarded is what calls besides the context cost on the line: a build of an empty directory, by the edge as it is or by one
// that has just been started.
func (s *site) forwarded(newRunner bool) float64 {
	s.build("edge", s.empty) // the daemon has its result from now on, as it has that of the tree
	samples := table.Series{}
	for range 3 {
		if newRunner {
			s.newRunner()
		}
		samples = append(samples, s.build("edge", s.empty))
	}
	bytes := table.Least(samples.Column(table.Bytes))
	s.b.Note("forwarded calls: %.0f bytes (a build of an empty directory)", bytes)
	return bytes
}

// name of a row over this site's line.
func (s *site) name(what string) string {
	return fmt.Sprintf("%s, %s, mtime %s", what, s.link.Shape.Name, s.mtime)
}
