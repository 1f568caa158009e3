// buildkit: what does a stock build cost through sluice, against the same build straight to the daemon? Prints the table of
// measured rows: minima over interleaved pairs, CPU seconds of every process, spreads, limits. A row whose reference
// runs spread too far (minimum to median) is void: the machine was busy.
//
// SLUICE_BINARY, BUILDKIT_BIN and FLOOR_BINARY are the programs; perf/buildkit/run sets them and makes the tree.
package main

import (
	"flag"
	"fmt"
	"os"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/perf/trees"
	"sluice.dev/sluice/tests/interop/rig"
)

// bench is what all rows share.
type bench struct {
	table.Table
	scope *rig.Main
	tree  string
	files int
	bytes int64 // content of the tree
	pairs int
	// A gateway to be compared with; empty: none.
	before string
}

func main() {
	b := &bench{scope: rig.NewMain()}
	rows := flag.String("rows", "cold,other,same,parallel,latency,lease,memory", "which rows, by name")
	most := flag.Int("files", 0, "take a copy of only about so many files of the tree; 0: all, where it is")
	flag.StringVar(&b.before, "before", "", "another gateway, which the cold row measures beside this one")
	results := flag.String("results", "", "where the rows are kept as JSON; empty: nowhere")
	flag.StringVar(&b.tree, "tree", "", "directory that is built (perf/buildkit/run makes one)")
	flag.IntVar(&b.pairs, "pairs", 9, "interleaved runs of each way")
	flag.StringVar(&rig.State, "state", "", "where daemons keep their roots, gateways and edges their stores; empty: /var/tmp")
	flag.StringVar(&rig.Stores, "stores", "", "where gateways keep their stores; empty: as --state says")
	flag.Parse()
	if b.tree == "" {
		fmt.Fprintln(os.Stderr, "buildkit: --tree is needed")
		os.Exit(2)
	}
	if *most > 0 {
		b.tree = trees.Part(b.scope, b.tree, *most)
	}
	b.files, b.bytes = measureTree(b.scope, b.tree)
	fmt.Printf("%s: %d files, %.2f GB of content; %d pairs\n", b.tree, b.files, float64(b.bytes)/1e9, b.pairs)
	known := map[string]func(*bench){"cold": cold, "other": other, "same": same, "parallel": parallel, "latency": latency,
		"lease": lease, "memory": memory}
	table.Run("buildkit", &b.Table, b, *rows, known, *results, map[string]any{"tree_files": b.files, "tree_bytes": b.bytes, "pairs": b.pairs})
	if !b.scope.Close() || b.Failed {
		os.Exit(1)
	}
}
