// edge: what does an edge cost and save, against the same build straight to the daemon over the same line? Prints the table of
// measured rows (minima and spreads over interleaved pairs, bytes as the line's proxy counts them, limits) and keeps it as JSON.
//
// Bytes are TCP payload, both ways, from the moment the client's command begins until it ends. Those of forwarded calls (the
// solve, its progress, the session's own) are what a build of an empty directory by the same edge costs, and are taken off
// where a limit says so. Walls are those of the context's step; buildx's whole command is in the JSON.
//
// SLUICE_BINARY, BUILDKIT_BIN and FLOOR_BINARY are the programs; perf/edge/run sets them and makes the trees. Root: the line is
// made of network namespaces.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/tests/interop/rig"
)

var shapes = map[string]rig.Shape{
	"loopback": {Name: "loopback"},
	"fast":     {Name: "100 Mbit/s + 20 ms", Megabits: 100, RoundTrip: 20 * time.Millisecond},
	"slow":     {Name: "20 Mbit/s + 80 ms", Megabits: 20, RoundTrip: 80 * time.Millisecond},
}

// bench is what all rows share.
type bench struct {
	table.Table
	scope        *rig.Main
	tree, next   string // the directory that is built; its next version
	mtime        string
	pairs        int
	places       int // inserted bytes
	edges        int // at once
	cuts         int
	keepTimes    bool
	seed         uint64
	straightMost time.Duration
	content      int64 // bytes of the tree
	entries      int
}

var rows = []struct {
	name   string
	run    func(b *bench, shape rig.Shape)
	shapes string // of the line it is measured over
}{
	{"same", same, "loopback,fast,slow"},
	{"fresh", fresh, "loopback,fast,slow"},
	{"ten", ten, "fast,slow"},
	{"insert", insert, "fast,slow"},
	{"version", version, "fast,slow"},
	{"cold", cold, "loopback,fast,slow"},
	{"cuts", cuts, "fast"},
	{"edges", edges, "loopback"},
	{"explain", explain, "fast"},
}

func main() {
	b := &bench{scope: rig.NewMain()}
	names := []string{}
	for _, row := range rows {
		names = append(names, row.name)
	}
	wanted := flag.String("rows", strings.Join(names, ","), "which rows, by name")
	over := flag.String("shapes", "loopback,fast,slow", "over which lines: loopback, fast (100 Mbit/s + 20 ms), slow (20 Mbit/s + 80 ms)")
	results := flag.String("results", "", "where the rows are kept as JSON; empty: nowhere")
	flag.StringVar(&b.tree, "tree", "", "directory that is built (perf/edge/run makes one)")
	flag.StringVar(&b.next, "next", "", "its next version")
	flag.StringVar(&b.mtime, "mtime", "stable", "of the edge, where a row does not say")
	flag.IntVar(&b.pairs, "pairs", 5, "interleaved runs of each way; over a line that takes more than --straight-most, one")
	flag.IntVar(&b.places, "places", 20, "where a byte is inserted into the large file")
	flag.IntVar(&b.edges, "edges", 10, "that push at once")
	flag.IntVar(&b.cuts, "cuts", 20, "of the line, in a push and in a build")
	flag.BoolVar(&b.keepTimes, "keep-times", true, "in the next version, what is as it was has its old time, which suits rsync; else all times are the package's")
	flag.Uint64Var(&b.seed, "seed", 1, "of what is random")
	flag.DurationVar(&b.straightMost, "straight-most", 5*time.Minute, "straight builds that would send the tree for longer are left out, but for `cold`")
	flag.StringVar(&rig.State, "state", "", "where daemons keep their roots, gateways and edges their stores; empty: /var/tmp")
	flag.Parse()
	if b.tree == "" {
		fmt.Fprintln(os.Stderr, "edge: --tree is needed")
		os.Exit(2)
	}
	b.content, b.entries = measureTree(b.scope, b.tree)
	fmt.Printf("%s: %.2f GB of content, %d entries; %d pairs; seed %d\n", b.tree, float64(b.content)/1e9, b.entries, b.pairs, b.seed)
	table.Run("edge", &b.Table, b, *wanted, known(*over), *results, map[string]any{"tree_bytes": b.content, "tree_entries": b.entries,
		"mtime": b.mtime, "seed": b.seed, "pairs": b.pairs})
	if !b.scope.Close() || b.Failed {
		os.Exit(1)
	}
}

// known are the rows by name, each of which is measured over those of its lines that are asked for.
func known(over string) map[string]func(*bench) {
	wanted := strings.Split(over, ",")
	all := map[string]func(*bench){}
	for _, row := range rows {
		all[row.name] = func(b *bench) {
			for _, shape := range strings.Split(row.shapes, ",") {
				if slices.Contains(wanted, shape) {
					row.run(b, shapes[shape])
				}
			}
		}
	}
	return all
}

// pairsOver is how often a way that sends so many bytes is run over a line.
func (b *bench) pairsOver(shape rig.Shape, bytes int64) int {
	if b.lasts(shape, bytes) > b.straightMost {
		return 1
	}
	return b.pairs
}

// lasts is how long so many bytes take at the least.
func (b *bench) lasts(shape rig.Shape, bytes int64) time.Duration {
	if shape.Megabits == 0 {
		return 0
	}
	return time.Duration(float64(bytes) * 8 / (shape.Megabits * 1e6) * float64(time.Second))
}
