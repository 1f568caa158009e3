package main

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/perf/trees"
	"sluice.dev/sluice/tests/interop/rig"
)

func measureTree(s rig.Scope, directory string) (content int64, entries int) {
	err := filepath.WalkDir(directory, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err == nil {
			content += info.Size()
		}
		return err
	})
	if err != nil {
		s.Fatalf("%v", err)
	}
	return content, entries - 1
}

// copyTree makes a directory of the same name elsewhere, with all times: rows change only what is theirs.
func copyTree(s rig.Scope, tree string) string {
	copied := filepath.Join(rig.Directory(s), "tree")
	if out, err := exec.Command("cp", "-a", "--reflink=auto", "--sparse=always", tree, copied).CombinedOutput(); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	return copied
}

// touch gives all entries new times, as a checkout that was made just now has them.
func touch(s rig.Scope, tree string, random *rand.Rand) {
	now := time.Now()
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := syscall.NsecToTimeval(now.Add(-time.Duration(random.Int64N(int64(time.Minute)))).UnixNano())
		// Not through symlinks.
		if entry.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		return syscall.Utimes(path, []syscall.Timeval{at, at})
	})
	if err != nil {
		s.Fatalf("%v", err)
	}
}

// editTen appends a line to a small file in each of ten directories; the bytes of these files.
func editTen(s rig.Scope, tree string, random *rand.Rand) int64 {
	const smallBytes = 16 << 10
	byDirectory := map[string][]string{}
	directories := []string{}
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil || info.Size() > smallBytes || info.Sys().(*syscall.Stat_t).Nlink > 1 {
			return err
		}
		parent := filepath.Dir(path)
		if byDirectory[parent] == nil {
			directories = append(directories, parent)
		}
		byDirectory[parent] = append(byDirectory[parent], path)
		return nil
	})
	if err != nil || len(directories) < 10 {
		s.Fatalf("%d directories with small files: %v", len(directories), err)
	}
	content := int64(0)
	for _, i := range random.Perm(len(directories))[:10] {
		files := byDirectory[directories[i]]
		path := files[random.IntN(len(files))]
		data, err := os.ReadFile(path)
		if err == nil {
			data = append(data, fmt.Sprintf("%d\n", random.Uint64())...)
			err = os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			s.Fatalf("%v", err)
		}
		content += int64(len(data))
	}
	return content
}

// insertByte puts one into the file at a random place.
func insertByte(s rig.Scope, path string, random *rand.Rand) {
	data, err := os.ReadFile(path)
	if err != nil {
		s.Fatalf("%v", err)
	}
	at := random.IntN(len(data) + 1)
	data = append(data, 0)
	copy(data[at+1:], data[at:])
	data[at] = byte(random.Uint32())
	if err := os.WriteFile(path, data, 0o644); err != nil {
		s.Fatalf("%v", err)
	}
}

// keepTimes gives each file of the next version that is as it was the time that it had: a checkout that updates a working tree
// leaves it alone. It is what suits rsync best.
func keepTimes(s rig.Scope, old, next string) (same, differ int) {
	others := map[string]bool{}
	for _, path := range trees.Differences(s, old, next) {
		others[path] = true
	}
	err := filepath.WalkDir(next, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at, err := filepath.Rel(next, path)
		if err != nil {
			return err
		}
		if others[at] {
			differ++
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		same++
		if entry.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		before, err := os.Lstat(filepath.Join(old, at))
		if err != nil {
			return err
		}
		return os.Chtimes(path, before.ModTime(), before.ModTime())
	})
	if err != nil {
		s.Fatalf("%v", err)
	}
	return same, differ
}

// walkSeconds is how long buildx's own walk of the tree takes: nobody learns of its entries faster.
func walkSeconds(s rig.Scope, tree string) float64 {
	best := time.Hour
	for range 3 {
		walker, err := fsutil.NewFS(tree)
		if err != nil {
			s.Fatalf("%v", err)
		}
		began := time.Now()
		if err := walker.Walk(context.Background(), "", func(string, fs.DirEntry, error) error { return nil }); err != nil {
			s.Fatalf("%v", err)
		}
		best = min(best, time.Since(began))
	}
	return best.Seconds()
}
