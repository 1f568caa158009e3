// Package fake plays both ends of a BuildKit connection: a daemon whose builds are Go functions, and a client whose context
// is a tree in memory. Both talk through BuildKit's own session, filesync and fsutil code, so that what is between them
// is spoken to as buildx and buildkitd speak.
package fake

import (
	"context"
	"encoding/binary"
	"io"
	gofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/pkg/errors"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// Tree is a directory in memory as fsutil sees one. File contents are made from a seed while they are read, so a tree of
// gigabytes costs nothing. It counts what is read of it: exactly the content that a client was asked for.
type Tree struct {
	entries map[string]*entry
	// Gate, when set, is called before each read; it may wait.
	Gate func()

	opened, read atomic.Int64
}

type entry struct {
	stat *types.Stat
	seed uint64
	text string // the content, when it is not made from the seed
	cut  int64  // bytes that are not there, though stat says so
}

// NewTree is an empty directory.
func NewTree() *Tree {
	return &Tree{entries: map[string]*entry{}}
}

// An arbitrary moment; entries get later ones.
const epoch = int64(1_700_000_000_000_000_000)

func (t *Tree) put(path string, mode os.FileMode, size int64, seed uint64) *entry {
	for parent := filepath.Dir(path); parent != "."; parent = filepath.Dir(parent) {
		if t.entries[parent] == nil {
			t.entries[parent] = &entry{stat: &types.Stat{Path: parent, Mode: uint32(os.ModeDir | 0o755), ModTime: epoch}}
		}
	}
	e := &entry{stat: &types.Stat{Path: path, Mode: uint32(mode), Size: size, ModTime: epoch}, seed: seed}
	t.entries[path] = e
	return e
}

// File puts a regular file of that size; seed names its content, time its modification in nanoseconds.
func (t *Tree) File(path string, size int64, seed uint64, time int64) {
	t.put(path, 0o644, size, seed).stat.ModTime = epoch + time
}

// Cut lets only so many bytes of a file be read, whatever its entry says.
func (t *Tree) Cut(path string, size int64) {
	t.entries[path].cut = t.entries[path].stat.Size - size
}

// Remove takes an entry away, with all below it.
func (t *Tree) Remove(path string) {
	for name := range t.entries {
		if name == path || strings.HasPrefix(name, path+"/") {
			delete(t.entries, name)
		}
	}
}

// Forge gives a file another content, and nothing else of it changes: not its size, not its time.
func (t *Tree) Forge(path string, seed uint64) {
	t.entries[path].seed = seed
	t.relink()
}

// Link puts a further name of a file that comes before it.
func (t *Tree) Link(path, first string) {
	file := t.entries[first]
	e := t.put(path, os.FileMode(file.stat.Mode), file.stat.Size, file.seed)
	e.stat.Linkname, e.stat.ModTime = first, file.stat.ModTime
}

// Symlink puts a symbolic link.
func (t *Tree) Symlink(path, target string) {
	e := t.put(path, os.ModeSymlink|0o777, int64(len(target)), 0)
	e.stat.Linkname = target
}

// Xattr gives an entry one more extended attribute.
func (t *Tree) Xattr(path, name, value string) {
	stat := t.entries[path].stat
	if stat.Xattrs == nil {
		stat.Xattrs = map[string][]byte{}
	}
	stat.Xattrs[name] = []byte(value)
}

// Device puts a character device.
func (t *Tree) Device(path string, major, minor int64) {
	e := t.put(path, os.ModeDevice|os.ModeCharDevice|0o666, 0, 0)
	e.stat.Devmajor, e.stat.Devminor = major, minor
}

// Fit takes away what no content-addressed tree holds: devices.
func (t *Tree) Fit() {
	for name, e := range t.entries {
		if os.FileMode(e.stat.Mode)&os.ModeDevice != 0 {
			delete(t.entries, name)
		}
	}
}

// Touch gives all entries new times, as a fresh checkout does.
func (t *Tree) Touch(random *rand.Rand) {
	for _, e := range t.entries {
		e.stat.ModTime = epoch + random.Int64N(1_000_000_000_000_000)
	}
	for _, e := range t.entries {
		if first := t.entries[e.stat.Linkname]; first != nil && os.FileMode(e.stat.Mode).IsRegular() {
			e.stat.ModTime = first.stat.ModTime
		}
	}
}

// SomeFile is a random regular file's path; "" when there is none.
func (t *Tree) SomeFile(random *rand.Rand) string {
	return t.some(random, isFile)
}

// Len is the number of entries.
func (t *Tree) Len() int {
	return len(t.entries)
}

// Size is the content of all regular files.
func (t *Tree) Size() int64 {
	total := int64(0)
	for _, e := range t.entries {
		if os.FileMode(e.stat.Mode).IsRegular() && e.stat.Linkname == "" {
			total += e.stat.Size
		}
	}
	return total
}

// Asked tells how many files and bytes were read since the last call.
func (t *Tree) Asked() (files, bytes int64) {
	return t.opened.Swap(0), t.read.Swap(0)
}

// paths in the order of fsutil: '/' before any other byte.
func (t *Tree) paths() []string {
	paths := make([]string, 0, len(t.entries))
	for path := range t.entries {
		paths = append(paths, path)
	}
	sort.Slice(paths, func(i, j int) bool {
		return strings.ReplaceAll(paths[i], "/", "\x00") < strings.ReplaceAll(paths[j], "/", "\x00")
	})
	return paths
}

// Walk as fsutil.FS: target and all below it, in order.
func (t *Tree) Walk(ctx context.Context, target string, fn gofs.WalkDirFunc) error {
	stats := make([]*types.Stat, 0, len(t.entries))
	for _, path := range t.paths() {
		stats = append(stats, t.entries[path].stat)
	}
	return Walk(ctx, stats, target, fn)
}

// Walk is fsutil's walk over entries that are known, sorted as it wants them: target ("" is all) and what is below it.
func Walk(ctx context.Context, entries []*types.Stat, target string, fn gofs.WalkDirFunc) error {
	target = strings.Trim(filepath.Clean("/"+target), "/")
	found := target == ""
	skipped := "" // a directory, with its '/'
	for _, stat := range entries {
		path := stat.Path
		if target != "" && path != target && !strings.HasPrefix(path, target+"/") ||
			skipped != "" && strings.HasPrefix(path, skipped) {
			continue
		}
		found = true
		if err := ctx.Err(); err != nil {
			return err
		}
		switch err := fn(path, &fsutil.DirEntryInfo{Stat: stat.Clone()}, nil); {
		case err == filepath.SkipAll:
			return nil
		case err == filepath.SkipDir && stat.IsDir():
			skipped = path + "/"
		case err == filepath.SkipDir && filepath.Dir(path) == ".": // the rest of the top
			return nil
		case err == filepath.SkipDir:
			skipped = filepath.Dir(path) + "/"
		case err != nil:
			return err
		}
	}
	if found {
		return nil
	}
	err := fn(target, nil, &os.PathError{Op: "lstat", Path: target, Err: os.ErrNotExist})
	if err == filepath.SkipDir || err == filepath.SkipAll {
		return nil
	}
	return err
}

// Open as fsutil.FS.
func (t *Tree) Open(path string) (io.ReadCloser, error) {
	e := t.entries[filepath.Clean(path)]
	if e == nil || !os.FileMode(e.stat.Mode).IsRegular() {
		return nil, errors.WithStack(&os.PathError{Op: "open", Path: path, Err: os.ErrNotExist})
	}
	t.opened.Add(1)
	if e.text != "" {
		return io.NopCloser(strings.NewReader(e.text)), nil
	}
	return &reader{tree: t, left: e.stat.Size - e.cut, content: content(e.seed)}, nil
}

// content is an endless stream of bytes that only the seed determines.
func content(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

type reader struct {
	tree    *Tree
	left    int64
	content *rand.ChaCha8
}

func (r *reader) Read(data []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.tree.Gate != nil {
		r.tree.Gate()
	}
	data = data[:min(int64(len(data)), r.left)]
	n, err := r.content.Read(data)
	r.left -= int64(n)
	r.tree.read.Add(int64(n))
	return n, err
}

func (r *reader) Close() error { return nil }

// Text is a directory with one small file whose content is given.
func Text(name, content string) fsutil.FS {
	t := NewTree()
	t.put(name, 0o644, int64(len(content)), 0).text = content
	return t
}
