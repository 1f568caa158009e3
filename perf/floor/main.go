// floor ADDRESS DIRECTORY: how fast could anybody give this daemon this directory? It reads the directory into memory first,
// then plays it to the daemon through BuildKit's own client, as a build of `COPY . /ctx`. What a gateway that has all content
// does cannot be faster; how near it comes is the question. Prints one JSON line: seconds of the context step, bytes sent.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	gofs "io/fs"
	"os"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"sluice.dev/sluice/tests/interop/fake"
)

// memory is a directory as it was when it was read.
type memory struct {
	entries  []*types.Stat
	contents map[string][]byte
	size     int64
}

func load(directory string) (*memory, error) {
	fs, err := fsutil.NewFS(directory)
	if err != nil {
		return nil, err
	}
	m := &memory{contents: map[string][]byte{}}
	return m, fs.Walk(context.Background(), "", func(name string, entry gofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*types.Stat)
		m.entries = append(m.entries, stat)
		if !info.Mode().IsRegular() || stat.Linkname != "" {
			return nil
		}
		file, err := fs.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		content, err := io.ReadAll(file)
		m.contents[name], m.size = content, m.size+int64(len(content))
		return err
	})
}

// Walk and Open as fsutil.FS.
func (m *memory) Walk(ctx context.Context, target string, fn gofs.WalkDirFunc) error {
	return fake.Walk(ctx, m.entries, target, fn)
}

func (m *memory) Open(name string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m.contents[name])), nil
}

func run(address, directory string) error {
	tree, err := load(directory)
	if err != nil {
		return err
	}
	recipe, err := os.MkdirTemp("", "floor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(recipe)
	if err := os.WriteFile(recipe+"/Dockerfile", []byte("FROM scratch\nCOPY . /ctx\n"), 0o644); err != nil {
		return err
	}
	dockerfile, err := fsutil.NewFS(recipe)
	if err != nil {
		return err
	}
	ctx := context.Background()
	c, err := client.New(ctx, "tcp://"+address)
	if err != nil {
		return err
	}
	defer c.Close()
	updates, took := make(chan *client.SolveStatus), make(chan float64, 1)
	go func() {
		var began, ended time.Time // the step may be told of several times
		for update := range updates {
			for _, vertex := range update.Vertexes {
				if vertex.Name != "[internal] load build context" || vertex.Completed == nil {
					continue
				}
				if began.IsZero() || vertex.Started.Before(began) {
					began = *vertex.Started
				}
				ended = *vertex.Completed
			}
		}
		took <- ended.Sub(began).Seconds()
	}()
	began := time.Now()
	_, err = c.Solve(ctx, nil, client.SolveOpt{Frontend: "dockerfile.v0", SharedKey: "tree:floor",
		LocalMounts: map[string]fsutil.FS{"context": tree, "dockerfile": dockerfile}}, updates)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"context_seconds": <-took, "seconds": time.Since(began).Seconds(),
		"bytes": tree.size, "entries": len(tree.entries)})
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: floor ADDRESS DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}
