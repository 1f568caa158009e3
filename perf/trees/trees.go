// Package trees makes the directories that are measured.
package trees

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

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
