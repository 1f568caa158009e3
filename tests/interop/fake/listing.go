package fake

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	gofs "io/fs"
	"os"
	"sort"
	"strings"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// Listing tells all of a tree that a transfer carries, a line an entry. Directories' times are told on request only: a
// receiver does not set them again when it changes what is in them.
func Listing(fs fsutil.FS, directoryTimes bool) (string, error) {
	var out strings.Builder
	err := fs.Walk(context.Background(), "", func(path string, entry gofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*types.Stat)
		mode := info.Mode()
		fmt.Fprintf(&out, "%q %v", path, mode)
		if directoryTimes || !mode.IsDir() {
			fmt.Fprintf(&out, " %d", stat.ModTime)
		}
		if stat.Linkname != "" {
			fmt.Fprintf(&out, " -> %q", stat.Linkname)
		}
		if mode&os.ModeDevice != 0 {
			fmt.Fprintf(&out, " %d:%d", stat.Devmajor, stat.Devminor)
		}
		keys := []string{}
		for key := range stat.Xattrs {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			fmt.Fprintf(&out, " %s=%q", key, stat.Xattrs[key])
		}
		if mode.IsRegular() {
			file, err := fs.Open(path)
			if err != nil {
				return err
			}
			defer file.Close()
			sum := sha256.New()
			n, err := io.Copy(sum, file)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %d %x", n, sum.Sum(nil)[:12])
		}
		out.WriteByte('\n')
		return nil
	})
	return out.String(), err
}

// ListingOf a directory on disk.
func ListingOf(directory string, directoryTimes bool) (string, error) {
	fs, err := fsutil.NewFS(directory)
	if err != nil {
		return "", err
	}
	return Listing(fs, directoryTimes)
}

// FirstDifference of two listings, for messages.
func FirstDifference(got, wanted string) string {
	have := map[string]bool{}
	for _, line := range strings.Split(wanted, "\n") {
		have[line] = true
	}
	difference := []string{}
	for _, line := range strings.Split(got, "\n") {
		if !have[line] {
			difference = append(difference, "+ "+line)
		}
		delete(have, line)
	}
	for line := range have {
		difference = append(difference, "- "+line)
	}
	sort.Strings(difference)
	return strings.Join(difference[:min(len(difference), 20)], "\n")
}
