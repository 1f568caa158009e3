package rig

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// loadProgram is one of perf/builds_core, beside the gateway's own.
func loadProgram(s Scope, name string) string {
	s.Helper()
	return filepath.Join(filepath.Dir(Setting(s, "SLUICE_BINARY")), "..", "..", "perf", "builds_core", "perf_builds_"+name)
}

// StandIns are so many stand-ins for a buildkitd, in one process; their addresses.
func StandIns(s Scope, count int, arguments ...string) []string {
	s.Helper()
	addresses := []string{}
	for range count {
		address := FreeAddress(s)
		addresses, arguments = append(addresses, address), append(arguments, "--listen", "grpc://"+address)
	}
	process := Start(s, loadProgram(s, "executor"), arguments...)
	for _, address := range addresses {
		process.Await(s, address)
	}
	return addresses
}

// Latencies are what a load tells of one kind, in ms.
type Latencies struct {
	Count int     `json:"count"`
	Min   float64 `json:"min_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

// Load is what a load tells at its end.
type Load struct {
	Builds      int       `json:"builds"`
	Failed      int       `json:"failed"`
	RunningMost int       `json:"running_most"`
	Seconds     float64   `json:"seconds"`
	CPU         float64   `json:"cpu_seconds"`
	Opened      Latencies `json:"opened"`
	Built       Latencies `json:"built"`
	Pinged      Latencies `json:"pinged"`
}

// RunLoad has the load program build at `url` to its end; `atOnce` (may be nil) is called when all builds run. Builds that
// failed are told in the result; that there is none, or that the program ended otherwise than it told, ends the caller.
func RunLoad(s Scope, url string, atOnce func(), flags ...string) Load {
	s.Helper()
	command := exec.Command(loadProgram(s, "load"), append([]string{"--gateway", url}, flags...)...)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		s.Fatalf("load: %v", err)
	}
	told, err := readLoad(out, atOnce)
	out.Close()
	if ended := command.Wait(); err == nil {
		err = told.agrees(ended)
	}
	if err != nil {
		s.Fatalf("load: %v", err)
	}
	return told
}

// readLoad reads what a load tells, to its end.
func readLoad(out io.Reader, atOnce func()) (told Load, err error) {
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		if strings.HasPrefix(scanner.Text(), "running ") && atOnce != nil {
			atOnce()
		} else if strings.HasPrefix(scanner.Text(), "{") {
			if err := json.Unmarshal(scanner.Bytes(), &told); err != nil {
				return told, err
			}
		}
	}
	return told, scanner.Err()
}

// agrees says whether the load's process ended as it told: with 1 when a build failed, else with 0.
func (l Load) agrees(ended error) error {
	var exit *exec.ExitError
	code, wanted := 0, 0
	if errors.As(ended, &exit) {
		code = exit.ExitCode()
	} else if ended != nil {
		return ended
	}
	if l.Failed > 0 {
		wanted = 1
	}
	if l.Builds == 0 {
		return fmt.Errorf("it told of no build, and ended with %d", code)
	}
	if code != wanted {
		return fmt.Errorf("it told of %d failed builds of %d, and ended with %d (%v)", l.Failed, l.Builds, code, ended)
	}
	return nil
}
