//go:build tools

// The programs that the tests run, so that go.mod and go.sum name all they are made of.
package interop

import (
	_ "github.com/docker/buildx/cmd/buildx"
	_ "github.com/moby/buildkit/cmd/buildctl"
	_ "github.com/moby/buildkit/cmd/buildkitd"
)
