package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"syscall"
	"testing"

	"sluice.dev/sluice/tests/interop/rig"
)

// files is a directory to be made: contents by path; a path that ends in '/' is an empty directory.
type files map[string]string

// The part of a Dockerfile that gives RUN steps a shell; busybox comes with the context. The nonce keeps these steps apart
// from those of other tests on the same daemon, whose names and cache hits would show here.
const shell = `FROM scratch AS base
COPY busybox src/nonce /bin/
SHELL ["/bin/busybox", "sh", "-c"]
RUN /bin/busybox --install -s /bin
`

// newContext makes a directory that no other build has: no two tests share a step of a daemon's cache by accident.
func newContext(t *testing.T, dockerfile string, contents files) string {
	t.Helper()
	directory := filepath.Join(rig.Directory(t), "context")
	putFiles(t, directory, files{"Dockerfile": dockerfile, "src/nonce": fmt.Sprint(rand.Uint64())})
	putFiles(t, directory, contents)
	if strings.Contains(dockerfile, "busybox") {
		if err := copyFile("/bin/busybox", filepath.Join(directory, "busybox")); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func putFiles(t *testing.T, directory string, contents files) {
	t.Helper()
	for name, content := range contents {
		path := filepath.Join(directory, name)
		parent := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			parent = path
		}
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Close()
}

// noise is text that does not compress and differs with its seed.
func noise(size int, seed uint64) string {
	random := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return string(data)
}

// oddTree puts links, a sparse file, xattrs, modes and odd names below src/.
func oddTree(t *testing.T, directory string) {
	t.Helper()
	putFiles(t, directory, files{"src/big": noise(3_000_000, 1), "src/with space/ä": "x", "src/empty": "", "src/tool": "#!"})
	path := func(name string) string { return filepath.Join(directory, "src", name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink("big", path("link")))
	must(os.Symlink("nowhere", path("dangling")))
	must(os.Link(path("big"), path("hard")))
	must(os.Chmod(path("tool"), 0o755|os.ModeSetuid))
	must(os.WriteFile(path("sparse"), nil, 0o600))
	must(os.Truncate(path("sparse"), 30_000_000))
	must(syscall.Setxattr(path("empty"), "user.sluice", []byte("kept"), 0))
}

// listing tells what a build made: names, modes, sizes, links and contents; of what was copied (below /src) also times.
func listing(t *testing.T, directory string) string {
	t.Helper()
	out := strings.Builder{}
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, directory)
		fmt.Fprintf(&out, "%q %v", name, info.Mode())
		if !info.IsDir() {
			fmt.Fprintf(&out, " %d", info.Size())
		}
		switch mode := info.Mode(); {
		case mode.IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %x links %d", digest(content), info.Sys().(*syscall.Stat_t).Nlink)
			if value := make([]byte, 64); true {
				if n, err := syscall.Getxattr(path, "user.sluice", value); err == nil {
					fmt.Fprintf(&out, " xattr %q", value[:n])
				}
			}
		case mode&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&out, " -> %q", target)
		}
		if strings.HasPrefix(name, "/src/") && !info.IsDir() {
			fmt.Fprintf(&out, " %d", info.ModTime().Unix())
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A file's time, at the end of its line in a listing.
var fileTime = regexp.MustCompile(`(?m)^("/src/.*) \d+$`)

// listing as this pair's two ways must agree in it: without times where the gateway makes its own.
func (p *pair) listing(t *testing.T, directory string) string {
	t.Helper()
	list := listing(t, directory)
	if p.ownTimes {
		list = fileTime.ReplaceAllString(list, "$1")
	}
	return list
}

// stepsCached reads raw progress: the names of the client's own steps, each with whether the daemon had its result.
func stepsCached(output string) []string {
	cached := map[string]bool{}
	scanner := bufio.NewScanner(strings.NewReader(output))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var update struct {
			Vertexes []struct {
				Name   string `json:"name"`
				Cached bool   `json:"cached"`
			} `json:"vertexes"`
		}
		if json.Unmarshal(scanner.Bytes(), &update) != nil {
			continue
		}
		for _, vertex := range update.Vertexes {
			// Names in brackets are those of Dockerfile steps; what the frontend or the gateway adds is not compared.
			if strings.HasPrefix(vertex.Name, "[") && !strings.HasPrefix(vertex.Name, "[internal]") &&
				!strings.HasPrefix(vertex.Name, "[sluice]") {
				cached[vertex.Name] = cached[vertex.Name] || vertex.Cached
			}
		}
	}
	steps := []string{}
	for name, had := range cached {
		steps = append(steps, fmt.Sprintf("%s cached=%v", name, had))
	}
	sort.Strings(steps)
	return steps
}
