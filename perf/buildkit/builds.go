package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

func treeBytes(s rig.Scope, directory string) int64 {
	total := int64(0)
	err := filepath.WalkDir(directory, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		s.Fatalf("%v", err)
	}
	return total
}

// site is a gateway with a daemon behind it, a daemon without one, and stock clients of both.
type site struct {
	b       *bench
	daemons map[string]*rig.Daemon // by way
	gateway *rig.Gateway
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
	if s.gateway != nil {
		s.gateway.Stop(s.b.scope)
		s.home.MustRun(s.b.scope, "buildx", "rm", "sluice")
	}
	s.gateway = rig.NewGateway(s.b.scope, rig.GatewayOptions{Executors: []string{rig.Executor(s.daemons["sluice"].Address, 16)}})
	s.home.AddBuilder(s.b.scope, "sluice", "tcp://"+s.gateway.Address)
}

// settle writes back what earlier runs left to the disk, so that no run pays for another.
func settle() { syscall.Sync() }

func (s *site) build(way string, more ...string) sample {
	arguments := append([]string{"build", "--builder", way, "--progress", "rawjson", "-f", s.recipe}, more...)
	return s.measure(way, s.command("buildx", append(arguments, s.b.tree)...), contextSeconds)
}

func (s *site) floor() sample {
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
func (s *site) measure(way string, command *exec.Cmd, seconds func(out []byte, took time.Duration) (float64, error)) sample {
	settle()
	var out, trouble bytes.Buffer
	command.Stdout, command.Stderr = &out, &trouble
	if command.Args[0] != os.Getenv("FLOOR_BINARY") {
		command.Stderr = &out // buildx writes its progress there
	}
	daemon, gateway := rig.CPUSeconds(s.daemons[way].Process().Pid()), rig.CPUSeconds(s.gateway.Process().Pid())
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
	return sample{wall: value, client: (state.UserTime() + state.SystemTime()).Seconds(),
		daemon: rig.CPUSeconds(s.daemons[way].Process().Pid()) - daemon, gateway: rig.CPUSeconds(s.gateway.Process().Pid()) - gateway}
}

// contextSeconds reads raw progress: how long the context's transfer took.
func contextSeconds(out []byte, _ time.Duration) (float64, error) {
	var began, ended time.Time // the step may be told of several times
	scanner := bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var update struct {
			Vertexes []struct {
				Name               string
				Started, Completed *time.Time
			}
		}
		if json.Unmarshal(scanner.Bytes(), &update) != nil {
			continue
		}
		for _, vertex := range update.Vertexes {
			if vertex.Name != "[internal] load build context" || vertex.Started == nil || vertex.Completed == nil {
				continue
			}
			if began.IsZero() || vertex.Started.Before(began) {
				began = *vertex.Started
			}
			ended = *vertex.Completed
		}
	}
	if began.IsZero() {
		return 0, fmt.Errorf("no context was loaded")
	}
	return ended.Sub(began).Seconds(), nil
}

func wholeSeconds(_ []byte, took time.Duration) (float64, error) { return took.Seconds(), nil }

// interleave runs each way in turn, `pairs` times, another one first each time.
func (b *bench) interleave(ways []string, run func(way string) sample) map[string]series {
	result := map[string]series{}
	for round := range b.pairs {
		for i := range ways {
			way := ways[(round+i)%len(ways)]
			result[way] = append(result[way], run(way))
		}
	}
	return result
}

func ratio(ways map[string]series, way, to string, of func(sample) float64) float64 {
	return least(ways[way].column(of)) / least(ways[to].column(of))
}
