// buildkit: what does a stock build cost through sluice, against the same build straight to the daemon? Prints the table of
// measured rows: minima over interleaved pairs, CPU seconds of every process, spreads, limits. A row whose straight runs
// spread too far (minimum to median) is void: the machine was busy.
//
// SLUICE_BINARY, BUILDKIT_BIN and FLOOR_BINARY are the programs; perf/buildkit/run sets them and makes the tree.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"sort"
	"strings"

	"sluice.dev/sluice/tests/interop/rig"
)

const spreadMax = 1.5

// sample is one measured build, or what stands for one.
type sample struct {
	wall                    float64 // seconds of the step or command in question
	client, gateway, daemon float64 // CPU seconds
}

// series are the samples of one way of doing a row.
type series []sample

func (s series) column(of func(sample) float64) []float64 {
	values := make([]float64, 0, len(s))
	for _, one := range s {
		values = append(values, of(one))
	}
	sort.Float64s(values)
	return values
}

func least(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return values[0]
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return values[len(values)/2]
}

func wall(s sample) float64    { return s.wall }
func client(s sample) float64  { return s.client }
func gateway(s sample) float64 { return s.gateway }
func daemon(s sample) float64  { return s.daemon }

// bench is what all rows share.
type bench struct {
	scope  *rig.Main
	tree   string
	bytes  int64 // content of the tree
	pairs  int
	failed bool
}

// limit is one thing that a row must show.
type limit struct {
	what        string
	value, most float64
}

// report prints a row and judges it.
func (b *bench) report(name string, ways map[string]series, limits ...limit) {
	fmt.Printf("\n%s\n", name)
	for _, way := range []string{"straight", "sluice", "floor"} {
		s, found := ways[way]
		if !found {
			continue
		}
		walls := s.column(wall)
		fmt.Printf("  %-9s n=%d  wall min %.3f s, median %.3f, max %.3f; CPU min: client %.2f s, gateway %.2f, daemon %.2f\n", way, len(s),
			least(walls), median(walls), walls[len(walls)-1], least(s.column(client)), least(s.column(gateway)), least(s.column(daemon)))
	}
	if straight, found := ways["straight"]; found {
		if spread := median(straight.column(wall)) / least(straight.column(wall)); spread > spreadMax {
			b.failed = true
			fmt.Printf("  VOID: straight runs spread %.2fx from minimum to median: the machine was busy\n", spread)
		}
	}
	for _, l := range limits {
		verdict := "ok"
		if !(l.value <= l.most) {
			verdict = "MISSED"
			b.failed = true
		}
		fmt.Printf("  %-60s %10.3f  at most %.3f  %s\n", l.what, l.value, l.most, verdict)
	}
}

func main() {
	b := &bench{scope: &rig.Main{}}
	rows := flag.String("rows", "cold,other,same,parallel,latency,lease,memory", "which rows, by name")
	flag.StringVar(&b.tree, "tree", "", "directory that is built (perf/buildkit/run makes one)")
	flag.IntVar(&b.pairs, "pairs", 9, "interleaved runs of each way")
	flag.StringVar(&rig.DaemonState, "state", "", "where daemons keep their roots; empty: /var/tmp")
	flag.Parse()
	if b.tree == "" {
		fmt.Fprintln(os.Stderr, "buildkit: --tree is needed")
		os.Exit(2)
	}
	b.bytes = treeBytes(b.scope, b.tree)
	fmt.Printf("%s: %.2f GB of content; %d pairs\n", b.tree, float64(b.bytes)/1e9, b.pairs)
	known := map[string]func(*bench){"cold": cold, "other": other, "same": same, "parallel": parallel, "latency": latency,
		"lease": lease, "memory": memory}
	for _, row := range strings.Split(*rows, ",") {
		run, found := known[row]
		if !found {
			fmt.Fprintf(os.Stderr, "buildkit: no row %q\n", row)
			os.Exit(2)
		}
		run(b)
	}
	if !b.scope.Close() || b.failed {
		os.Exit(1)
	}
}
