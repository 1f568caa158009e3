package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

// The edge, then the gateway, is killed, and started again on what it has: the next build is right. Both at rest and in the
// middle of a build, which ends, with an error.
func TestEdgeAndGatewayRestart(t *testing.T) {
	t.Parallel()
	needs(t, rig.Relay)
	s := newEdgeSite(t, 0, rig.EdgeOptions{})
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	oddTree(t, directory)
	s.build(t, directory)
	restarts := map[string]func(){
		"edge":    func() { s.edge.Crash(t); s.edge.Start(t) },
		"gateway": func() { s.gateway.Crash(); s.gateway.Resume(t) },
	}
	for _, who := range []string{"edge", "gateway"} {
		putFiles(t, directory, files{"src/nonce": fmt.Sprint(rand.Uint64())})
		restarts[who]()
		s.build(t, directory)
		running := s.home.Begin(t, "buildx", "build", "--builder", "edge", "--progress", "plain",
			newContext(t, shell+"RUN echo fast-$(echo asleep) && sleep 100\n", nil))
		running.AwaitText(t, asleep)
		restarts[who]()
		if err := running.Wait(t, rig.Patience); err == nil {
			t.Errorf("the %s was killed, and a build succeeded: %s", who, running.Output.Tail())
		}
		s.build(t, directory)
	}
}

// A gateway that stays away for longer than the limit: the build ends, and names it. So does one that begins then; once the
// gateway is back all is well.
func TestGatewayIsUnreachable(t *testing.T) {
	t.Parallel()
	needs(t, rig.Relay)
	arguments := []string{"--connect-timeout", "2s"}
	if rig.Has(rig.Resume) {
		arguments = append(arguments, "--link-timeout", "2s")
	}
	s := newEdgeSite(t, 0, rig.EdgeOptions{Arguments: arguments})
	directory := newContext(t, shell+"COPY src /src\n", nil)
	running := s.home.Begin(t, "buildx", "build", "--builder", "edge", "--progress", "plain",
		newContext(t, shell+"RUN echo fast-$(echo asleep) && sleep 100\n", nil))
	running.AwaitText(t, asleep)
	s.wire.Refuse(true)
	if err := running.Wait(t, 60*time.Second); err == nil || !strings.Contains(running.Output.String(), s.wire.Address) {
		t.Errorf("%v: %s", err, running.Output.Tail())
	}
	c := connect(t, s.edge.Address())
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := c.Raw().ListWorkers(ctx); err == nil || !strings.Contains(err.Error(), s.wire.Address) {
		t.Errorf("without a gateway: %v", err)
	}
	if told, err := s.home.Run("buildx", "build", "--builder", "edge", directory); err == nil || !strings.Contains(told, s.wire.Address) {
		t.Errorf("a build without a gateway: %v: %s", err, told)
	}
	s.wire.Refuse(false)
	// For a moment the edge may still answer that there is none, so that a client stops trying.
	rig.Eventually(t, 30*time.Second, "the gateway is reached again", func() bool {
		_, err := c.Raw().ListWorkers(ctx)
		return err == nil
	})
	s.build(t, directory)
}
