package rig

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Metrics are the numbers that the gateway's admin port tells, by name with labels.
func (g *Gateway) Metrics(s Scope) map[string]float64 {
	s.Helper()
	return metricsOf(s, http.DefaultClient, g.Admin, g.process)
}

func metricsOf(s Scope, client *http.Client, admin string, process *Process) map[string]float64 {
	s.Helper()
	response, err := client.Get("http://" + admin + "/metrics")
	if err != nil {
		s.Fatalf("metrics: %v: %s", err, process.Log().Tail())
	}
	defer response.Body.Close()
	metrics := map[string]float64{}
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		name, text, found := strings.Cut(scanner.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); found && err == nil && name != "#" {
			metrics[name] = value
		}
	}
	return metrics
}

// What each build takes and must give back. Numbers of parts that a gateway has not are no gauges of it.
var gauges = []string{"sluice_connections", "sluice_streams", "sluice_bindings", "sluice_buildkit_calls", "sluice_open_files",
	"sluice_executor_slots_busy", "sluice_leases_waiting", "sluice_builds", "sluice_store_holds"}

// The admin port tells a copy of the numbers; a later one shows by this, as the loop turns to make it.
const turns = "sluice_ring_turns_total"

// fresh are metrics from after this moment.
func fresh(s Scope, tell func(s Scope) map[string]float64) map[string]float64 {
	s.Helper()
	first, metrics := tell(s)[turns], map[string]float64{}
	Eventually(s, 10*time.Second, "new numbers are told", func() bool {
		metrics = tell(s)
		return metrics[turns] != first
	})
	return metrics
}

// Gauges as they are now, for Settles to hold the later ones against; with what steps have left on the machine of these daemons, which
// all run.
func (g *Gateway) Gauges(s Scope, daemons ...*Daemon) map[string]float64 {
	s.Helper()
	metrics, kept := fresh(s, g.Metrics), map[string]float64{}
	for _, name := range gauges {
		if value, found := metrics[name]; found {
			kept[name] = value
		}
	}
	kept["sluice_open_files"] -= metrics["sluice_store_segments"] // what it has stored stays open
	for _, daemon := range daemons {
		kept["mounts of "+daemon.Address] = float64(len(mountsBelow(daemon.root)))
		kept["processes in containers of "+daemon.Address] = float64(len(daemon.steps()))
	}
	return kept
}

// Settles waits until no gauge is above what it was. The daemons are some of those that Gauges was told of.
func (g *Gateway) Settles(s Scope, before map[string]float64, daemons ...*Daemon) {
	s.Helper()
	above := func() string {
		now, list := g.Gauges(s, daemons...), ""
		for name, value := range before {
			if now[name] > value {
				list += fmt.Sprintf(" %s is %v, was %v;", name, now[name], value)
			}
		}
		return list
	}
	for end := time.Now().Add(15 * time.Second); above() != ""; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("after the builds:%s", above())
		}
	}
}

// ResidentMost is the most memory that a process ever had, in bytes. The gateway's own process is the child of the one that
// was started; Pid of the latter is accepted for both.
func ResidentMost(s Scope, pid int) int64 {
	s.Helper()
	most := int64(0)
	for _, process := range append(children(pid), pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", process))
		for _, line := range strings.Split(string(text), "\n") {
			fields := strings.Fields(line)
			if len(fields) > 1 && fields[0] == "VmHWM:" {
				kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
				most = max(most, kilobytes<<10)
			}
		}
	}
	if most == 0 {
		s.Fatalf("process %d is gone", pid)
	}
	return most
}

// CPUSeconds that a process and its children have used, those that ended included.
func CPUSeconds(pid int) float64 {
	total := 0.0
	for _, process := range append(children(pid), pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		for i := 11; i < 15 && i < len(fields); i++ { // utime, stime, and those of ended children
			ticks, _ := strconv.ParseFloat(fields[i], 64)
			total += ticks / 100
		}
	}
	return total
}

func children(pid int) []int {
	found := []int{}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			found = append(append(found, child), children(child)...)
		}
	}
	return found
}
