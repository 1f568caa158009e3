// push: what does it cost to bring a directory to another machine, cold, unchanged, edited, and as its next version: with
// `sluice push`, rsync, a pipe of tar and zstd, casync, and a stock buildx build straight to its daemon? Walls, bytes and the
// CPU of both ends, over loopback or a shaped line. The unchanged tree is also walked by two threads that stat each entry and send
// nothing: nobody finds out for less that nothing has changed.
//
// All but buildx and casync go over TLS: sluice by itself with certificates both ways, rsync's daemon and the pipe by socat.
// casync has no way to send but a shared disk or ssh: it writes to a local store, which no line slows. buildx goes in plain
// to a daemon on the same disk. Both are thus better off than they would be. What counts as done: sluice has committed, to the
// disk; rsync and buildx have returned; tar at the far end has ended.
//
// SLUICE_BINARY and BUILDKIT_BIN are the programs; perf/push/run sets them. Bytes are TCP payload both ways, of a run of its own
// through a counting proxy, so that it costs none of the others.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/perf/trees"
	"sluice.dev/sluice/tests/interop/rig"
)

type bench struct {
	table.Table
	scope *rig.Main
	tree  string // the directory: a copy, which rows edit
	next  string // its next version; empty: that row is left out
	shape rig.Shape
	link  *rig.Link
	pairs int
	files int
	size  int64 // of their content
	bytes bool  // are counted
	ways  []*way
	some  string // the ways, when they are not all
}

const allWays = "sluice,rsync,tar,casync,straight,walk"

var shapes = map[string]rig.Shape{
	"loopback": {Name: "loopback"},
	"fast":     {Name: "100 Mbit/s + 20 ms", Megabits: 100, RoundTrip: 20 * time.Millisecond},
	"slow":     {Name: "20 Mbit/s + 80 ms", Megabits: 20, RoundTrip: 80 * time.Millisecond},
}

func main() {
	b := &bench{scope: rig.NewMain()}
	rows := flag.String("rows", "cold,same,ten,insert,version", "which rows, by name")
	names := flag.String("ways", allWays, "which ways, by name")
	shape := flag.String("shape", "loopback", "of the line: loopback, fast (100 Mbit/s + 20 ms), slow (20 Mbit/s + 80 ms)")
	results := flag.String("results", "", "where the rows are kept as JSON; empty: nowhere")
	tree := flag.String("tree", "", "directory that is pushed; it is copied first")
	most := flag.Int("files", 0, "take only about so many files of it; 0: all")
	inPlace := flag.Bool("in-place", false, "push --tree itself: for rows that edit nothing")
	flag.BoolVar(&b.bytes, "bytes", true, "a run of each way through the counting proxy, before the others")
	flag.StringVar(&b.next, "next", "", "its next version")
	flag.StringVar(&rig.Base, "state", rig.Base, "where the tree is copied to, and all ways keep what they store")
	flag.IntVar(&b.pairs, "pairs", 3, "interleaved runs of each way")
	flag.Parse()
	known, found := shapes[*shape]
	if *tree == "" || !found {
		fmt.Fprintln(os.Stderr, "push: --tree is needed, and a --shape that is known")
		os.Exit(2)
	}
	b.shape, b.link = known, rig.NewLink(b.scope, known)
	b.tree = *tree
	if !*inPlace {
		b.tree = trees.Part(b.scope, *tree, *most)
	}
	b.count()
	fmt.Printf("%s: %d files, %.2f GB; %d pairs; %s\n", *tree, b.files, float64(b.size)/1e9, b.pairs, b.shape.Name)
	if *names != allWays {
		b.some = strings.ReplaceAll(*names, ",", ", ")
	}
	b.makeWays(strings.Split(*names, ","))
	run := map[string]func(*bench){"cold": cold, "same": same, "ten": ten, "insert": insert, "version": version}
	table.Run("push", &b.Table, b, *rows, run, *results, map[string]any{"tree_files": b.files, "tree_bytes": b.size, "pairs": b.pairs, "line": b.shape.Name})
	if !b.scope.Close() || b.Failed {
		os.Exit(1)
	}
}

func (b *bench) count() {
	b.files, b.size = 0, 0
	err := filepath.WalkDir(b.tree, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			b.files, b.size = b.files+1, b.size+info.Size()
		}
		return err
	})
	if err != nil {
		b.scope.Fatalf("%v", err)
	}
}

// measure runs the client's command: its clock and that of all that it starts, and what the far end has used meanwhile. `done`
// (may be nil) waits for the far end.
func (b *bench) measure(command *exec.Cmd, far func() float64, done func(out []byte)) table.Sample {
	syscall.Sync() // no run pays for what another left to the disk
	before, began := far(), time.Now()
	out, err := command.CombinedOutput()
	if err != nil {
		b.scope.Fatalf("%v: %v: %s", command.Args, err, out)
	}
	if done != nil {
		done(out)
	}
	took := time.Since(began)
	state := command.ProcessState
	return table.Sample{Wall: took.Seconds(), Client: (state.UserTime() + state.SystemTime()).Seconds(), Daemon: far() - before}
}
