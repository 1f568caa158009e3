package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tonistiigi/fsutil/types"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice.dev/sluice/tests/interop/rig"
)

// The load of perf/builds is no build by stock programs: here it is held against one.

// Fifty builds at once through the gateway, with small calls in them: all of them end well.
func TestLoadRuns(t *testing.T) {
	t.Parallel()
	executors := []string{rig.Executor(rig.StandIns(t, 1, "--hold-ms", "2000")[0], 30), rig.Executor(rig.StandIns(t, 1, "--hold-ms", "2000")[0], 30)}
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: executors})
	result := rig.RunLoad(t, "grpc://"+gateway.Address, nil, "--builds", "50", "--rate", "100", "--pings", "50")
	if result.Failed != 0 || result.RunningMost < 40 {
		t.Errorf("%+v", result)
	}
	if result.Pinged.Count < 20 {
		t.Errorf("small calls: %+v", result.Pinged)
	}
}

// What the load says is what buildx says, call by call, field by field; and what stands in for buildkitd answers and asks as
// buildkitd does. Both are recorded here and now.
func TestLoadSpeaksAsBuildxDoes(t *testing.T) {
	t.Parallel()
	p := shared(t)
	real := rig.NewTap(t, p.straight.Address)
	home := rig.NewHome(t)
	home.AddBuilder(t, "tapped", "tcp://"+real.Address)
	directory := newContext(t, "FROM scratch\nCOPY . /ctx\n", map[string]string{"d/f": "content"})
	home.MustRun(t, "buildx", "build", "--builder", "tapped", "--no-cache", directory)
	ours := rig.NewTap(t, rig.StandIns(t, 1)[0])
	rig.RunLoad(t, "grpc://"+ours.Address, nil, "--builds", "1", "--files", "2")
	wanted, got := shapes(real.Calls()), shapes(ours.Calls())
	if !slices.Equal(wanted, got) {
		t.Errorf("buildx and buildkitd:\n%s\nthe load and the stand-in:\n%s", strings.Join(wanted, "\n"), strings.Join(got, "\n"))
	}
}

// These four begin at once, in any order.
var together = []string{"/moby.buildkit.v1.Control/Session", "/moby.buildkit.v1.Control/Solve", "/moby.buildkit.v1.Control/Status",
	"/moby.buildkit.v1.frontend.LLBBridge/Ping"}

// shapes of calls, a line each, without what differs from run to run.
func shapes(calls []*rig.TappedCall) []string {
	lines, group := []string{}, []string{}
	flush := func() {
		slices.Sort(group)
		lines, group = append(lines, group...), nil
	}
	for _, call := range calls {
		if !slices.Contains(together, call.Path) {
			flush()
		}
		group = append(group, shape(call)...)
		if !slices.Contains(together, call.Path) {
			flush()
		}
	}
	flush()
	return lines
}

// outcomeOf a call; of a Session nobody waits for it.
func outcomeOf(call *rig.TappedCall) string {
	if call.Path == "/moby.buildkit.v1.Control/Session" {
		return "any"
	}
	return call.Status
}

// fields without the program's name.
func fields(call *rig.TappedCall) []string {
	return slices.DeleteFunc(slices.Clone(call.Fields), func(name string) bool { return name == "user-agent" })
}

func shape(call *rig.TappedCall) []string {
	text := fmt.Sprintf("%s %v says %s hears %s status %s", call.Path, fields(call), several(call.Requests, call.Path), several(call.Answers, ""), outcomeOf(call))
	lines := []string{text}
	if methods := slices.Clone(call.Values["x-docker-expose-session-grpc-method"]); len(methods) > 0 {
		slices.Sort(methods)
		lines[0] += fmt.Sprintf(" exposes %v", methods)
	}
	for _, inner := range call.Inner {
		if strings.HasSuffix(inner.Path, "/Check") {
			continue // buildkitd asks after five seconds
		}
		follow := slices.Clone(inner.Values["followpaths"])
		slices.Sort(follow)
		lines[0] += fmt.Sprintf("\n  %s %v %v %v daemon %v client %v status %s", inner.Path, fields(inner), inner.Values["dir-name"], follow,
			packets(inner.Requests), packets(inner.Answers), inner.Status)
	}
	return lines
}

// several tells the fields of the first message; of further ones only that they are.
func several(messages [][]byte, path string) string {
	if len(messages) == 0 {
		return "nothing"
	}
	if path == "" {
		return "something"
	}
	numbers := []string{}
	for rest := messages[0]; len(rest) > 0; {
		number, kind, size := protowire.ConsumeTag(rest)
		if size < 0 {
			return "garbage"
		}
		value := protowire.ConsumeFieldValue(number, kind, rest[size:])
		if value < 0 {
			return "garbage"
		}
		numbers = append(numbers, fmt.Sprint(number))
		rest = rest[size+value:]
	}
	slices.Sort(numbers)
	return fmt.Sprint(slices.Compact(numbers))
}

// packets are the kinds that were sent, each once: data may be asked for before all entries were told.
func packets(messages [][]byte) []string {
	kinds := []string{}
	for _, message := range messages {
		packet := &types.Packet{}
		kind := "garbage"
		if packet.Unmarshal(message) == nil {
			kind = packet.Type.String()
		}
		if kind == "PACKET_STAT" && packet.Stat == nil {
			kind = "END"
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}
