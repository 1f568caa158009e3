package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/tests/interop/rig"
)

func measureTree(s rig.Scope, directory string) (files int, content int64) {
	err := filepath.WalkDir(directory, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			files, content = files+1, content+info.Size()
		}
		return err
	})
	if err != nil {
		s.Fatalf("%v", err)
	}
	return files, content
}

// site is a gateway with a daemon behind it, a daemon without one, and stock clients of both.
type site struct {
	b       *bench
	daemons map[string]*rig.Daemon // by way
	gateway *rig.Gateway
	before  *rig.Gateway // the other one; nil: none
	home    *rig.Home
	recipe  string // a Dockerfile outside the tree
}

const dockerfile = "FROM scratch\nCOPY . /ctx\n"

func newSite(b *bench) *site {
	s := &site{b: b, daemons: map[string]*rig.Daemon{}, home: rig.NewHome(b.scope)}
	for _, way := range []string{"straight", "sluice", "floor"} {
		s.daemons[way] = rig.NewDaemon(b.scope)
	}
	s.recipe = filepath.Join(rig.Directory(b.scope), "Dockerfile")
	if err := os.WriteFile(s.recipe, []byte(dockerfile), 0o644); err != nil {
		b.scope.Fatalf("%v", err)
	}
	s.newGateway()
	s.home.AddBuilder(b.scope, "straight", "tcp://"+s.daemons["straight"].Address)
	return s
}

// newGateway puts one with an empty store in front of the daemon; the builder names it afresh.
func (s *site) newGateway() {
	s.gateway = s.replace(s.gateway, "sluice", "")
}

// newBefore does it with the gateway that is compared with.
func (s *site) newBefore() {
	if s.before == nil {
		s.daemons["before"] = rig.NewDaemon(s.b.scope)
	}
	s.before = s.replace(s.before, "before", s.b.before)
}

func (s *site) replace(old *rig.Gateway, way, binary string) *rig.Gateway {
	if old != nil {
		old.Stop(s.b.scope)
		os.RemoveAll(old.Store)
		s.home.MustRun(s.b.scope, "buildx", "rm", way)
	}
	fresh := rig.NewGateway(s.b.scope, rig.GatewayOptions{Executors: []string{rig.Executor(s.daemons[way].Address, 16)}, Binary: binary})
	s.home.AddBuilder(s.b.scope, way, "tcp://"+fresh.Address)
	return fresh
}

// of a way that has one; else the gateway that is there anyway.
func (s *site) gatewayOf(way string) *rig.Gateway {
	if way == "before" {
		return s.before
	}
	return s.gateway
}

// settle writes back what earlier runs left to the disk, so that no run pays for another.
func settle() { syscall.Sync() }

func (s *site) build(way string, more ...string) table.Sample {
	arguments := append([]string{"build", "--builder", way, "--progress", "rawjson", "-f", s.recipe}, more...)
	return s.measure(way, s.command("buildx", append(arguments, s.b.tree)...), table.ContextSeconds)
}

func (s *site) floor() table.Sample {
	command := exec.Command(rig.Setting(s.b.scope, "FLOOR_BINARY"), s.daemons["floor"].Address, s.b.tree)
	return s.measure("floor", command, func(out []byte, _ time.Duration) (float64, error) {
		var told struct {
			Seconds float64 `json:"context_seconds"`
		}
		err := json.Unmarshal(out, &told)
		return told.Seconds, err
	})
}

func (s *site) command(program string, arguments ...string) *exec.Cmd {
	c := s.home.Command(background, program, arguments...)
	c.Cancel, c.WaitDelay = nil, 0
	return c
}

// measure runs a client's command and reads the clocks of all processes around it.
func (s *site) measure(way string, command *exec.Cmd, seconds func(out []byte, took time.Duration) (float64, error)) table.Sample {
	settle()
	var out, trouble bytes.Buffer
	command.Stdout, command.Stderr = &out, &trouble
	if command.Args[0] != os.Getenv("FLOOR_BINARY") {
		command.Stderr = &out // buildx writes its progress there
	}
	of := s.gatewayOf(way).Process().Pid()
	daemon, gateway := rig.CPUSeconds(s.daemons[way].Process().Pid()), rig.CPUSeconds(of)
	began := time.Now()
	if err := command.Run(); err != nil {
		s.b.scope.Fatalf("%s: %v: %s%s", way, err, out.String(), trouble.String())
	}
	took := time.Since(began)
	value, err := seconds(out.Bytes(), took)
	if err != nil {
		s.b.scope.Fatalf("%s: %v: %s", way, err, out.String())
	}
	state := command.ProcessState
	return table.Sample{Wall: value, Client: (state.UserTime() + state.SystemTime()).Seconds(),
		Daemon: rig.CPUSeconds(s.daemons[way].Process().Pid()) - daemon, Gateway: rig.CPUSeconds(of) - gateway}
}
