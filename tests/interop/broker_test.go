package interop

import (
	"context"
	"path/filepath"
	"sync"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// probeBroker tries whether the second time, into an empty directory, the content comes from elsewhere than the client.
var probeBroker = sync.OnceValue(func() bool {
	directory := rig.Directory(&main)
	daemon, err := fake.NewDaemon("", func(ctx context.Context, b *fake.Build) error {
		return b.Receive(ctx, filepath.Join(directory, b.Request.FrontendAttrs["into"]), fake.Sync{})
	})
	if err != nil {
		main.Fatalf("%v", err)
	}
	main.Cleanup(daemon.Kill)
	gateway := rig.NewGateway(&main, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	client, err := fake.Connect(context.Background(), gateway.Address)
	if err != nil {
		main.Fatalf("%v", err)
	}
	defer client.Close()
	tree := fake.NewTree()
	tree.File("file", 100_000, 1, 1)
	for _, into := range []string{"first", "second"} {
		tree.Asked()
		ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
		_, err := client.Build(ctx, map[string]fsutil.FS{"context": tree}, map[string]string{"into": into})
		cancel()
		if err != nil {
			main.Logf("probing for a broker: %v: %s", err, gateway.Process().Log().Tail())
			return false
		}
	}
	_, bytes := tree.Asked()
	return bytes == 0
})
