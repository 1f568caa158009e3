// Package trees makes the directories that are measured.
package trees

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"sluice.dev/sluice/tests/interop/rig"
)

// walkThreads as the machine has cores on which the numbers are taken.
const walkThreads = "2"

// Walk lists a directory and stats each entry, and sends nothing: perf/scan's plain loop, built beside the gateway's program.
func Walk(s rig.Scope, tree string) *exec.Cmd {
	program := filepath.Join(filepath.Dir(rig.Setting(s, "SLUICE_BINARY")), "..", "..", "perf", "scan", "perf_scan")
	return exec.Command(program, "--plain", tree, walkThreads)
}

// Part copies about so many files of a directory (0: all) to a place of their own: whole directories of the top until there are
// enough, and of the one that would be too many those within.
func Part(s rig.Scope, from string, most int) string {
	s.Helper()
	into := filepath.Join(rig.Directory(s), "tree")
	if err := os.Mkdir(into, 0o755); err != nil {
		s.Fatalf("%v", err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		s.Fatalf("%v", err)
	}
	taken := 0
	var take func(from, into string, entry fs.DirEntry)
	take = func(from, into string, entry fs.DirEntry) {
		if most > 0 && taken >= most {
			return
		}
		count := files(filepath.Join(from, entry.Name()))
		if most > 0 && taken+count > most && entry.IsDir() {
			deeper, err := os.ReadDir(filepath.Join(from, entry.Name()))
			if err == nil {
				err = os.Mkdir(filepath.Join(into, entry.Name()), 0o755)
			}
			if err != nil {
				s.Fatalf("%v", err)
			}
			for _, each := range deeper {
				take(filepath.Join(from, entry.Name()), filepath.Join(into, entry.Name()), each)
			}
			return
		}
		taken += count
		if out, err := exec.Command("cp", "-a", filepath.Join(from, entry.Name()), into+"/").CombinedOutput(); err != nil {
			s.Fatalf("cp: %v: %s", err, out)
		}
	}
	for _, entry := range entries {
		take(from, into, entry)
	}
	return into
}

func files(path string) int {
	count := 0
	_ = filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			count++
		}
		return nil
	})
	return count
}

// Differences are the paths, below both, that two directories do not have alike, times aside: of what one of them lacks the topmost.
func Differences(s rig.Scope, one, other string) []string {
	s.Helper()
	found := []string{}
	var compare func(at string)
	compare = func(at string) {
		for _, name := range names(s, filepath.Join(one, at), filepath.Join(other, at)) {
			path := filepath.Join(at, name)
			a, errA := os.Lstat(filepath.Join(one, path))
			b, errB := os.Lstat(filepath.Join(other, path))
			switch {
			case errA != nil || errB != nil || a.Mode() != b.Mode():
				found = append(found, path)
			case a.IsDir():
				compare(path)
			case !sameContent(s, filepath.Join(one, path), filepath.Join(other, path), a, b):
				found = append(found, path)
			}
		}
	}
	compare("")
	return found
}

func names(s rig.Scope, directories ...string) []string {
	s.Helper()
	all := []string{}
	for _, directory := range directories {
		entries, err := os.ReadDir(directory)
		if err != nil {
			s.Fatalf("%v", err)
		}
		for _, entry := range entries {
			all = append(all, entry.Name())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func sameContent(s rig.Scope, one, other string, a, b fs.FileInfo) bool {
	s.Helper()
	if a.Mode().Type() == fs.ModeSymlink {
		x, errX := os.Readlink(one)
		y, errY := os.Readlink(other)
		return errX == nil && errY == nil && x == y
	}
	if !a.Mode().IsRegular() {
		return true
	}
	if a.Size() != b.Size() {
		return false
	}
	x, errX := os.ReadFile(one)
	y, errY := os.ReadFile(other)
	if errX != nil || errY != nil {
		s.Fatalf("%v, %v", errX, errY)
	}
	return bytes.Equal(x, y)
}

// Become makes these paths of a directory what they are in another one, as a checkout does that leaves alone what is as it was.
func Become(s rig.Scope, tree, other string, paths []string) {
	s.Helper()
	for _, path := range paths {
		to, from := filepath.Join(tree, path), filepath.Join(other, path)
		if err := os.RemoveAll(to); err != nil {
			s.Fatalf("%v", err)
		}
		if _, err := os.Lstat(from); err != nil {
			continue
		}
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			s.Fatalf("cp: %v: %s", err, out)
		}
	}
}
