// scale: how does cost grow? Trees of 10^3 to 10^5 files (10^6 with --most 6, which takes 8 GB of disk), pushed cold and
// unchanged, and walked by two threads that stat each entry and send nothing; and 1 to 1,000 builds at once. For each kind the
// exponent of a power law is fitted to the least of the runs, by least squares over all sizes; and told is the one between the two
// largest, where a fixed cost no longer hides what grows.
//
// SLUICE_BINARY is the gateway; perf/scale/run sets it.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/perf/trees"
	"sluice.dev/sluice/tests/interop/rig"
)

const (
	fileBytes      = 500
	directoryFiles = 100
	unchangedRuns  = 5
	exponentMost   = 1.05
	walkMost       = 1.3 // of a walk's wall, where nothing has changed
)

type bench struct {
	table.Table
	scope *rig.Main
	least int // powers of ten
	most  int
	runs  int
}

func main() {
	b := &bench{scope: rig.NewMain()}
	rows := flag.String("rows", "files,builds", "which rows, by name")
	results := flag.String("results", "", "where the rows are kept as JSON; empty: nowhere")
	flag.IntVar(&b.least, "least", 3, "files of the smallest tree, as a power of ten")
	flag.IntVar(&b.most, "most", 5, "of the largest")
	flag.IntVar(&b.runs, "runs", 3, "cold pushes of each tree; but one of the largest")
	flag.StringVar(&rig.Base, "state", rig.Base, "where trees and stores are made")
	flag.Parse()
	known := map[string]func(*bench){"files": scaleFiles, "builds": scaleBuilds}
	table.Run("scale", &b.Table, b, *rows, known, *results, map[string]any{"file_bytes": fileBytes})
	if !b.scope.Close() || b.Failed {
		os.Exit(1)
	}
}

// point is one size and what it cost.
type point struct{ size, cost float64 }

// fit is the exponent of cost = a * size^exponent, by least squares of the logarithms.
func fit(points []point) float64 {
	var n, x, y, xx, xy float64
	for _, p := range points {
		lx, ly := math.Log(p.size), math.Log(p.cost)
		n, x, y, xx, xy = n+1, x+lx, y+ly, xx+lx*lx, xy+lx*ly
	}
	return (n*xy - x*y) / (n*xx - x*x)
}

// tell tells all points of a kind, and the exponent between the two largest.
func (b *bench) tell(kind, unit string, points []point) float64 {
	for _, p := range points {
		b.Figure(fmt.Sprintf("%s, %.0f", kind, p.size), p.cost, unit)
	}
	b.Figure(kind+": exponent over all", fit(points), "")
	return fit(points[max(0, len(points)-2):])
}

// curve also judges how it grows.
func (b *bench) curve(kind, unit string, points []point) []table.Limit {
	return []table.Limit{table.AtMost(kind+": exponent between the two largest", b.tell(kind, unit, points), exponentMost)}
}

func (b *bench) makeTree(files int) string {
	tree := filepath.Join(rig.Directory(b.scope), "tree")
	data := make([]byte, fileBytes)
	for i := range files {
		directory := filepath.Join(tree, fmt.Sprintf("d%03d", i/directoryFiles/directoryFiles), fmt.Sprintf("e%02d", i/directoryFiles%directoryFiles))
		if i%directoryFiles == 0 {
			if err := os.MkdirAll(directory, 0o755); err != nil {
				b.scope.Fatalf("%v", err)
			}
		}
		state := uint64(i)*0x9e3779b97f4a7c15 + 1
		for k := range data {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			data[k] = "etaoin shrdlu\n{}"[state%16]
		}
		if err := os.WriteFile(filepath.Join(directory, fmt.Sprintf("f%02d.c", i%directoryFiles)), data, 0o644); err != nil {
			b.scope.Fatalf("%v", err)
		}
	}
	return tree
}

func (b *bench) push(gateway *rig.Gateway, home, tree string) table.Sample {
	command := exec.Command(rig.Setting(b.scope, "SLUICE_BINARY"), "push", "--gateway", "grpc://"+gateway.Address, "--no-ignore", "--progress", "quiet", tree)
	command.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_STATE_HOME="+home)
	syscall.Sync()
	before, began := rig.CPUSeconds(gateway.Process().Pid()), time.Now()
	if out, err := command.CombinedOutput(); err != nil {
		b.scope.Fatalf("push: %v: %s", err, out)
	}
	took := time.Since(began).Seconds()
	state := command.ProcessState
	return table.Sample{Wall: took, Client: (state.UserTime() + state.SystemTime()).Seconds(),
		Gateway: rig.CPUSeconds(gateway.Process().Pid()) - before}
}

// walk is the least that finding out takes.
func (b *bench) walk(tree string) float64 {
	command := trees.Walk(b.scope, tree)
	began := time.Now()
	if out, err := command.CombinedOutput(); err != nil {
		b.scope.Fatalf("%v: %v: %s", command.Args, err, out)
	}
	return time.Since(began).Seconds()
}

func cost(s table.Sample) float64 { return s.Client + s.Gateway }

// Files: cold with an empty store and an empty home, then unchanged.
func scaleFiles(b *bench) {
	var coldWall, coldCost, sameWall, sameCost, walked []point
	for power := b.least; power <= b.most; power++ {
		files := int(math.Pow10(power))
		tree := b.makeTree(files)
		time.Sleep(time.Second) // what is younger than the clock's ticks is not trusted to be unchanged
		runs := b.runs
		if power == b.most {
			runs = 1
		}
		var cold, same table.Series
		var walks []float64
		for range runs {
			// An index has a sixteenth of the ceiling, and 10^6 names fill what that is of rig's.
			gateway, home := rig.NewGateway(b.scope, rig.GatewayOptions{Arguments: []string{"--ceiling", "16GB"}}), rig.Directory(b.scope)
			cold = append(cold, b.push(gateway, home, tree))
			b.push(gateway, home, tree)
			for range unchangedRuns {
				same = append(same, b.push(gateway, home, tree))
				walks = append(walks, b.walk(tree))
			}
			gateway.Stop(b.scope)
			os.RemoveAll(gateway.Store)
		}
		size := float64(files)
		coldWall = append(coldWall, point{size, table.Least(cold.Column(table.Wall))})
		coldCost = append(coldCost, point{size, table.Least(cold.Column(cost))})
		sameWall = append(sameWall, point{size, table.Least(same.Column(table.Wall))})
		sameCost = append(sameCost, point{size, table.Least(same.Column(table.Client))})
		walked = append(walked, point{size, table.Least(walks)})
		os.RemoveAll(tree)
	}
	limits := b.curve("cold, wall", "s", coldWall)
	limits = append(limits, b.curve("cold, CPU of both ends", "s", coldCost)...)
	limits = append(limits, b.curve("unchanged, CPU of the client", "s", sameCost)...)
	b.Figure("unchanged, wall: exponent between the two largest", b.tell("unchanged, wall", "s", sameWall), "")
	b.Figure("a walk, wall: exponent between the two largest", b.tell("a walk, wall", "s", walked), "")
	last := len(walked) - 1
	limits = append(limits, table.AtMost("unchanged, wall of the largest, of a walk's", sameWall[last].cost/walked[last].cost, walkMost))
	b.Report("files", nil, limits...)
}

// Builds at once: what the gateway's CPU takes for each, and its memory.
func scaleBuilds(b *bench) {
	addresses := []string{}
	for _, address := range rig.StandIns(b.scope, 4, "--hold-ms", "6000") {
		addresses = append(addresses, rig.Executor(address, 256))
	}
	var points []point
	for count := 1; count <= 1000; count *= 10 {
		gateway := rig.NewGateway(b.scope, rig.GatewayOptions{Executors: addresses})
		rig.Eventually(b.scope, 30*time.Second, "all executors are ready", func() bool {
			return gateway.Metrics(b.scope)["sluice_executors_ready"] == float64(len(addresses))
		})
		before := rig.CPUSeconds(gateway.Process().Pid())
		if told := rig.RunLoad(b.scope, "grpc://"+gateway.Address, nil, "--builds", fmt.Sprint(count), "--rate", "250"); told.Failed > 0 {
			b.scope.Fatalf("%d of %d builds failed", told.Failed, count)
		}
		// What it does without builds is in all of them: the clock's ticks are of 10 ms.
		points = append(points, point{float64(count), max(0.01, rig.CPUSeconds(gateway.Process().Pid())-before)})
		gateway.Stop(b.scope)
	}
	b.Report("builds at once", nil, b.curve("CPU of the gateway", "s", points)...)
}
