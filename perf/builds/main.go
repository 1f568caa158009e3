// builds: what do a thousand builds at once, three hundred that begin each second, and tenants with a greedy one among them
// wait for and cost? Clients and executors are those of perf/builds_core: they speak as buildx and buildkitd do (tests/interop
// holds them against a recorded build), so that what is measured on a small machine is the gateway. Latencies count from when
// a build was to begin; a session is open when the executor's first call inside it reaches the client. The same load straight
// to the stand-in says what of it is the load's own.
//
// SLUICE_BINARY is the gateway; the other programs are looked for beside it. perf/builds/run builds all of them.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/tests/interop/rig"
)

type bench struct {
	table.Table
	scope   *rig.Main
	ca      *rig.Authority
	builds  int
	rate    float64
	seconds float64
}

func main() {
	b := &bench{scope: rig.NewMain()}
	rows := flag.String("rows", "many,burst,fair", "which rows, by name")
	results := flag.String("results", "", "where the rows are kept as JSON; empty: nowhere")
	flag.IntVar(&b.builds, "builds", 1000, "at once")
	flag.Float64Var(&b.rate, "rate", 300, "builds that begin each second in a burst")
	flag.Float64Var(&b.seconds, "seconds", 30, "that a burst lasts")
	flag.Parse()
	b.ca = rig.NewAuthority(b.scope)
	known := map[string]func(*bench){"many": many, "burst": burst, "fair": fair}
	table.Run("builds", &b.Table, b, *rows, known, *results, map[string]any{"builds": b.builds, "rate": b.rate, "seconds": b.seconds})
	if !b.scope.Close() || b.Failed {
		os.Exit(1)
	}
}

// ---- what runs ----

// executors in one process; a build lasts that long.
func (b *bench) executors(count int, hold time.Duration) []string {
	return rig.StandIns(b.scope, count, "--hold-ms", fmt.Sprint(hold.Milliseconds()))
}

func (b *bench) gateway(tls bool, executors ...string) *rig.Gateway {
	options := rig.GatewayOptions{Executors: executors}
	var gateway *rig.Gateway
	if tls {
		gateway = b.ca.NewGateway(options)
	} else {
		gateway = rig.NewGateway(b.scope, options)
	}
	rig.Eventually(b.scope, 30*time.Second, "all executors are ready", func() bool {
		return gateway.Metrics(b.scope)["sluice_executors_ready"] == float64(len(executors))
	})
	return gateway
}

// anonymous memory of a process, in bytes.
func anonymous(s rig.Scope, pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "RssAnon:" {
			kilobytes, _ := strconv.ParseFloat(fields[1], 64)
			return kilobytes * 1024
		}
	}
	s.Fatalf("process %d is gone", pid)
	return 0
}

func slotted(addresses []string, slots int, tenant string) []string {
	list := []string{}
	for _, address := range addresses {
		executor := rig.Executor(address, slots)
		if tenant != "" {
			executor += ",tenant=" + tenant
		}
		list = append(list, executor)
	}
	return list
}

func (b *bench) figures(who string, kind string, s rig.Latencies) {
	b.Figure(who+": "+kind+", p50", s.P50, "ms")
	b.Figure(who+": "+kind+", p90", s.P90, "ms")
	b.Figure(who+": "+kind+", p99", s.P99, "ms")
	b.Figure(who+": "+kind+", p99.9", s.P999, "ms")
	b.Figure(who+": "+kind+", worst", s.Max, "ms")
}

// ---- rows ----

// A thousand builds that last, each on a connection of its own over TLS with a client's certificate, with progress, health
// checks and small calls in them.
func many(b *bench) {
	const ramp, plateau = 10 * time.Second, 20 * time.Second
	addresses := b.executors(4, ramp+plateau)
	gateway := b.gateway(true, slotted(addresses, 256, "default")...)
	pid := gateway.Process().Pid()
	count := []string{"--builds", fmt.Sprint(b.builds), "--rate", fmt.Sprint(float64(b.builds) / ramp.Seconds()), "--pings", "200"}
	certificate := rig.Flags(b.ca.Client("default"))
	straight := rig.RunLoad(b.scope, "grpc://"+addresses[0], nil, count...)
	before, grown, cpu := anonymous(b.scope, pid), 0.0, rig.CPUSeconds(pid)
	through := rig.RunLoad(b.scope, "grpcs://"+gateway.Address, func() { grown = anonymous(b.scope, pid) - before }, append(count, certificate...)...)
	cpu = rig.CPUSeconds(pid) - cpu
	b.figures("straight", "small call", straight.Pinged)
	b.figures("sluice", "small call", through.Pinged)
	b.figures("sluice", "session open", through.Opened)
	b.Figure("sluice: CPU of the gateway", cpu, "s")
	b.Figure("sluice: memory of a build", grown/float64(b.builds)/1024, "KiB")
	b.Report(fmt.Sprintf("%d builds at once, TLS with client certificates", b.builds), nil,
		table.AtMost("builds that failed", float64(through.Failed), 0),
		table.AtMost("builds that did not run with all others", float64(b.builds-through.RunningMost), 0),
		table.AtMost("ms added to a small call, p99", through.Pinged.P99-straight.Pinged.P99, 10),
		table.AtMost("KiB of the gateway's memory a build, buffers included", grown/float64(b.builds)/1024, 256))
	gateway.Stop(b.scope)
}

// Builds that begin in a burst, with TLS and without.
func burst(b *bench) {
	count := []string{"--builds", fmt.Sprint(int(b.rate * b.seconds)), "--rate", fmt.Sprint(b.rate), "--files", "2"}
	addresses := b.executors(4, 0)
	straight := rig.RunLoad(b.scope, "grpc://"+addresses[0], nil, count...)
	for _, tls := range []bool{false, true} {
		scheme, tenant, flags, name := "grpc", "", count, "plain"
		if tls {
			scheme, tenant, flags, name = "grpcs", "default", append(count, rig.Flags(b.ca.Client("default"))...), "TLS with client certificates"
		}
		gateway := b.gateway(tls, slotted(addresses, 256, tenant)...)
		pid := gateway.Process().Pid()
		cpu := rig.CPUSeconds(pid)
		through := rig.RunLoad(b.scope, scheme+"://"+gateway.Address, nil, flags...)
		b.figures("straight, plain", "session open", straight.Opened)
		b.figures("sluice", "session open", through.Opened)
		b.Figure("sluice: CPU of the gateway a build", (rig.CPUSeconds(pid)-cpu)/float64(through.Builds)*1000, "ms")
		b.Report(fmt.Sprintf("%.0f builds begin each second for %.0f s, %s", b.rate, b.seconds, name), nil,
			table.AtMost("builds that failed", float64(through.Failed), 0),
			table.AtMost("ms until a session is open, p99", through.Opened.P99, 250))
		gateway.Stop(b.scope)
	}
}

// Three tenants, each with an executor that takes 40 builds a second; one of them asks for 150.
func fair(b *bench) {
	tenants := []string{"greedy", "modest", "small"}
	executors, certificates := []string{}, map[string][]string{}
	for _, tenant := range tenants {
		executors = append(executors, slotted(b.executors(1, 200*time.Millisecond), 8, tenant)...)
		certificates[tenant] = rig.Flags(b.ca.Client(tenant))
	}
	gateway := b.gateway(true, executors...)
	run := func(tenant string, builds int, rate float64) rig.Load {
		return rig.RunLoad(b.scope, "grpcs://"+gateway.Address, nil, append([]string{"--builds", fmt.Sprint(builds), "--rate", fmt.Sprint(rate),
			"--node", tenant, "--files", "2"}, certificates[tenant]...)...)
	}
	all := func(names ...string) map[string]rig.Load {
		told, mutex, running := map[string]rig.Load{}, sync.Mutex{}, sync.WaitGroup{}
		for _, tenant := range names {
			running.Add(1)
			go func() {
				defer running.Done()
				builds, rate := 100, 10.0
				if tenant == "greedy" {
					builds, rate = 900, 150
				}
				one := run(tenant, builds, rate)
				mutex.Lock()
				defer mutex.Unlock()
				told[tenant] = one
			}()
		}
		running.Wait()
		return told
	}
	quiet := all("modest", "small")
	beside := all(tenants...)
	failed := 0
	for _, tenant := range tenants {
		b.figures("with all three, "+tenant, "session open", beside[tenant].Opened)
		failed += beside[tenant].Failed
	}
	waited := 0.0
	for _, tenant := range []string{"modest", "small"} {
		b.Figure("without the greedy one, "+tenant+": session open, p99", quiet[tenant].Opened.P99, "ms")
		waited = max(waited, beside[tenant].Opened.P99)
	}
	b.Report("three tenants, one of them greedy", nil,
		table.AtMost("builds that failed", float64(failed), 0),
		table.AtMost("ms until a session of the others is open, p99", waited, 250))
	gateway.Stop(b.scope)
}
