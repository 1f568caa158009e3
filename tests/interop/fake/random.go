package fake

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Sizes around what matters on the way: nothing, one DATA packet, a small file's limit, a window, several chunks.
var sizes = []int64{0, 1, 11, 4095, 4096, 32767, 32768, 32769, 65535, 65536, 65537, 200_000, 1 << 20, 3<<20 + 1}

// Names that sort oddly around '/', and what a shell would trip over.
var names = []string{"a", "a-b", "a.b", "a b", "ab", "B", "ä", "日本", ".hidden", "-dash", "*", "new\nline", "x'y\"z", "~", "%41", "0",
	strings.Repeat("n", 200)}

// Random makes a tree of about `count` entries: files, directories, symlinks, hardlinks, fifos, devices, xattrs, odd modes.
func Random(random *rand.Rand, count int) *Tree {
	t := NewTree()
	for t.Len() < count {
		t.grow(random)
	}
	return t
}

func pick[T any](random *rand.Rand, values []T) T {
	return values[random.IntN(len(values))]
}

// some is a path of an entry that `wanted` says yes to, or "".
func (t *Tree) some(random *rand.Rand, wanted func(e *entry) bool) string {
	found := []string{}
	for _, path := range t.paths() {
		if wanted(t.entries[path]) {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return pick(random, found)
}

func isDirectory(e *entry) bool { return os.FileMode(e.stat.Mode).IsDir() }

func isFile(e *entry) bool { return os.FileMode(e.stat.Mode).IsRegular() && e.stat.Linkname == "" }

func (t *Tree) newPath(random *rand.Rand) string {
	directory := "."
	if random.IntN(4) > 0 {
		if found := t.some(random, isDirectory); found != "" && strings.Count(found, "/") < 12 && len(found) < 3000 {
			directory = found
		}
	}
	name := pick(random, names)
	if random.IntN(2) == 0 {
		name = fmt.Sprintf("%.100s%d", name, random.IntN(1000))
	}
	return filepath.Join(directory, name)
}

func (t *Tree) grow(random *rand.Rand) {
	path := t.newPath(random)
	if t.entries[path] != nil {
		return
	}
	permissions := pick(random, []os.FileMode{0o644, 0o755, 0o600, 0o400, 0o777, 0o755 | os.ModeSetuid, 0o755 | os.ModeSetgid})
	var e *entry
	switch kind := random.IntN(20); {
	case kind < 4:
		e = t.put(path, os.ModeDir|pick(random, []os.FileMode{0o755, 0o700, 0o777 | os.ModeSticky}), 0, 0)
	case kind == 4:
		e = t.put(path, os.ModeSymlink|0o777, 0, 0)
		e.stat.Linkname = pick(random, []string{"a", "../a", "/etc/passwd", "nowhere", "."})
		e.stat.Size = int64(len(e.stat.Linkname))
	case kind == 5:
		t.link(random, path)
		return
	case kind == 6:
		e = t.put(path, os.ModeNamedPipe|0o644, 0, 0)
	case kind == 7:
		e = t.put(path, os.ModeDevice|os.ModeCharDevice|0o666, 0, 0)
		e.stat.Devmajor, e.stat.Devminor = 1, int64(random.IntN(10))
	default:
		e = t.put(path, permissions, pick(random, sizes), random.Uint64())
	}
	e.stat.ModTime = epoch + random.Int64N(1_000_000_000_000_000)
	if mode := os.FileMode(e.stat.Mode); random.IntN(5) == 0 && (mode.IsDir() || mode.IsRegular()) {
		e.stat.Xattrs = map[string][]byte{"user.sluice": []byte(fmt.Sprint(random.IntN(3)))}
	}
}

// link makes path a further name of a file that comes before it in the walk: the first one carries the content.
func (t *Tree) link(random *rand.Rand, path string) {
	first := t.some(random, func(e *entry) bool {
		return isFile(e) && strings.ReplaceAll(e.stat.Path, "/", "\x00") < strings.ReplaceAll(path, "/", "\x00")
	})
	if first == "" {
		return
	}
	e := t.put(path, os.FileMode(t.entries[first].stat.Mode), t.entries[first].stat.Size, t.entries[first].seed)
	e.stat.Linkname, e.stat.ModTime, e.stat.Xattrs = first, t.entries[first].stat.ModTime, t.entries[first].stat.Xattrs
}

// relink keeps hardlinks true after a change: a name whose first is gone or changed becomes a file of its own.
func (t *Tree) relink() {
	for _, e := range t.entries {
		if e.stat.Linkname == "" || !os.FileMode(e.stat.Mode).IsRegular() {
			continue
		}
		first := t.entries[e.stat.Linkname]
		if first == nil || first.seed != e.seed || first.stat.Size != e.stat.Size || first.stat.Mode != e.stat.Mode ||
			first.stat.ModTime != e.stat.ModTime {
			e.stat.Linkname = ""
		}
	}
}

// Change does what an editor, a checkout or a build does to a tree, `count` times.
func (t *Tree) Change(random *rand.Rand, count int) {
	for range count {
		path := t.some(random, func(*entry) bool { return true })
		if path == "" {
			t.grow(random)
			continue
		}
		e := t.entries[path]
		switch kind := random.IntN(8); {
		case kind == 0:
			t.Remove(path)
		case kind < 3 && isFile(e): // another content, of the same size or another
			e.seed = random.Uint64()
			if random.IntN(2) == 0 {
				e.stat.Size = pick(random, sizes)
			}
			e.stat.ModTime += 1 + random.Int64N(1_000_000_000)
		case kind == 3 && isFile(e): // touched
			e.stat.ModTime++
		case kind == 4 && !isDirectory(e): // another kind of entry under the same name
			t.Remove(path)
			t.put(path, os.ModeDir|0o755, 0, 0).stat.ModTime = epoch + random.Int64N(1_000_000_000)
		case kind == 5 && !(os.FileMode(e.stat.Mode)&os.ModeSymlink != 0):
			e.stat.Mode ^= 0o020
		default:
			t.grow(random)
		}
	}
	t.relink()
}
