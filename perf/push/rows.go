package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/perf/trees"
)

const editSeed = 5

// interleave runs `prepare` and then a measured push of each way in turn, another one first each time; before that each once
// through the proxy, for the bytes.
func (b *bench) interleave(pairs int, prepare func(w *way), edit func(round int)) map[string]table.Series {
	counted, result := map[string]table.Sample{}, map[string]table.Series{}
	first := 0
	if b.bytes {
		first = -1
	}
	for round := first; round < pairs; round++ {
		if edit != nil {
			edit(round)
		}
		for i := range b.ways {
			w := b.ways[(round+1+i)%len(b.ways)]
			if prepare != nil {
				prepare(w)
			}
			sample := w.push(round < 0)
			if round < 0 {
				counted[w.name] = sample
				continue
			}
			sample.Up, sample.Down = counted[w.name].Up, counted[w.name].Down
			result[w.name] = append(result[w.name], sample)
			fmt.Printf("  round %d: %s %.3f s\n", round, w.name, sample.Wall)
		}
	}
	return result
}

func (b *bench) settle() {
	for _, w := range b.ways {
		w.begin()
		w.push(false)
	}
}

// against the others: which wall is the ratio to, and what it may be.
func (b *bench) against(ways map[string]table.Series, most map[string]float64) []table.Limit {
	limits, names := []table.Limit{}, []string{}
	for name := range most {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if _, measured := ways[name]; measured && ways["sluice"] != nil {
			limits = append(limits, table.AtMost("wall, sluice / "+name, table.Ratio(ways, "sluice", name, table.Wall), most[name]))
		}
	}
	return limits
}

func (b *bench) name(what string) string {
	text := fmt.Sprintf("%s, %d files, %.2f GB, %s", what, b.files, float64(b.size)/1e9, b.shape.Name)
	if b.some != "" {
		text += ": " + b.some
	}
	return text
}

// Nothing of it is there.
func cold(b *bench) {
	defer b.without("walk")()
	ways := b.interleave(b.pairs, func(w *way) { w.begin() }, nil)
	b.Report(b.name("cold"), ways, b.against(ways, map[string]float64{"rsync": 1, "tar": 1, "casync": 1, "straight": 0.5})...)
}

// without leaves ways out of a row, until what it returns is called.
func (b *bench) without(names ...string) func() {
	all := b.ways
	b.ways = slices.DeleteFunc(slices.Clone(all), func(w *way) bool { return slices.Contains(names, w.name) })
	return func() { b.ways = all }
}

// incremental leaves out the pipe, which sends all again, and the walk, which sends nothing.
func (b *bench) incremental() func() { return b.without("tar", "walk") }

// Nothing has changed since.
func same(b *bench) {
	defer b.without("tar")()
	b.settle()
	ways := b.interleave(b.pairs, nil, nil)
	b.Report(b.name("no change"), ways, b.against(ways, map[string]float64{"rsync": 1, "casync": 1, "straight": 1, "walk": 1.3})...)
}

func (b *bench) sorted(wanted func(info os.FileInfo) bool) []string {
	found := []string{}
	err := filepath.Walk(b.tree, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && wanted(info) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		b.scope.Fatalf("%v", err)
	}
	return found
}

// A byte of ten small files.
func ten(b *bench) {
	defer b.incremental()()
	b.settle()
	random := rand.New(rand.NewPCG(editSeed, 0))
	small := b.sorted(func(info os.FileInfo) bool { return info.Size() > 0 && info.Size() <= 64<<10 })
	ways := b.interleave(b.pairs, nil, func(int) {
		for range 10 {
			path := small[random.IntN(len(small))]
			data, err := os.ReadFile(path)
			if err == nil {
				data[random.IntN(len(data))] ^= 1
				err = os.WriteFile(path, data, 0o644)
			}
			if err != nil {
				b.scope.Fatalf("%v", err)
			}
		}
	})
	b.Report(b.name("ten small files edited"), ways, b.against(ways, map[string]float64{"rsync": 1, "casync": 1, "straight": 1})...)
}

// A byte put into the largest file.
func insert(b *bench) {
	defer b.incremental()()
	b.settle()
	random := rand.New(rand.NewPCG(editSeed, 1))
	largest, size := "", int64(0)
	for _, path := range b.sorted(func(os.FileInfo) bool { return true }) {
		if info, err := os.Stat(path); err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
	}
	ways := b.interleave(b.pairs, nil, func(int) {
		data, err := os.ReadFile(largest)
		if err == nil {
			at := random.IntN(len(data))
			data = append(data[:at], append([]byte{byte(random.IntN(256))}, data[at:]...)...)
			err = os.WriteFile(largest, data, 0o644)
		}
		if err != nil {
			b.scope.Fatalf("%v", err)
		}
	})
	b.Report(b.name(fmt.Sprintf("a byte inserted into a file of %.0f MB", float64(size)/1e6)), ways,
		b.against(ways, map[string]float64{"rsync": 1, "casync": 1, "straight": 1})...)
}

// The next version in the place of the one before, as a checkout puts it there. A straight build would send the whole first version
// before each: over a slow line it is left out.
func version(b *bench) {
	if b.next == "" {
		fmt.Println("\nnext version: left out, as no --next is given")
		return
	}
	defer b.incremental()()
	if b.shape != shapes["loopback"] {
		defer b.without("straight")()
	}
	first := b.tree
	defer func() { b.tree = first }()
	b.tree = trees.Part(b.scope, first, 0)
	changed := trees.Differences(b.scope, first, b.next)
	fmt.Printf("\nnext version: %d paths differ\n", len(changed))
	ways := b.interleave(b.pairs, func(w *way) {
		trees.Become(b.scope, b.tree, first, changed)
		w.begin()
		w.push(false)
		trees.Become(b.scope, b.tree, b.next, changed)
	}, nil)
	limits := b.against(ways, map[string]float64{"rsync": 0.5})
	if b.shape != shapes["loopback"] { // where bytes cost less than what saves them
		limits = append(limits, table.AtMost("bytes, sluice / rsync", table.Ratio(ways, "sluice", "rsync", table.Bytes), 1))
	}
	b.Report(b.name("next version"), ways, limits...)
}
