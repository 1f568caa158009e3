package fake

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"

	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// Sync says how a daemon asks for a directory of its client.
type Sync struct {
	Name                     string // "context" when empty
	Include, Exclude, Follow []string
	Fresh                    bool // ask for all, whatever is there (fsutil.DiffNone)
	// Pace, when set, is called before each packet is taken; it may wait.
	Pace func()
	// Received, when set, is told of each packet; it may wait.
	Received func(packet *types.Packet)
	// Sent, when set, is told of each packet of the daemon's own.
	Sent func(packet *types.Packet)
}

// Receive brings the client's directory to `destination`, made when it is not there, by BuildKit's own receiver.
func (b *Build) Receive(ctx context.Context, destination string, sync Sync) error {
	if err := os.MkdirAll(destination, 0o755); err != nil {
		return err
	}
	name := sync.Name
	if name == "" {
		name = "context"
	}
	options := metadata.MD{"dir-name": {name}}
	for key, patterns := range map[string][]string{"include-patterns": sync.Include, "exclude-patterns": sync.Exclude,
		"followpaths": sync.Follow} {
		if len(patterns) == 0 {
			continue
		}
		for _, pattern := range patterns {
			options.Append(key, url.QueryEscape(pattern))
		}
		options.Set(key+"-encoded", "1")
	}
	ctx, cancel := context.WithCancel(b.Session.Context(ctx))
	defer cancel()
	stream, err := filesync.NewFileSyncClient(b.Session.Conn()).DiffCopy(metadata.NewOutgoingContext(ctx, options))
	if err != nil {
		return err
	}
	differ := fsutil.DiffMetadata
	if sync.Fresh {
		differ = fsutil.DiffNone
	}
	err = fsutil.Receive(stream.Context(), &paced{ClientStream: stream, sync: sync}, destination, fsutil.ReceiveOpt{Differ: differ})
	if err != nil {
		return err
	}
	return stream.CloseSend()
}

// Skim takes the entries of the client's context and asks for no content.
func (b *Build) Skim(ctx context.Context) error {
	ctx, cancel := context.WithCancel(b.Session.Context(ctx))
	defer cancel()
	stream, err := filesync.NewFileSyncClient(b.Session.Conn()).DiffCopy(metadata.NewOutgoingContext(ctx, metadata.MD{"dir-name": {"context"}}))
	if err != nil {
		return err
	}
	for last := false; !last; {
		packet := &types.Packet{}
		if err := stream.RecvMsg(packet); err != nil {
			return err
		}
		if packet.Type == types.PACKET_ERR {
			return errors.New(string(packet.Data))
		}
		last = packet.Type == types.PACKET_STAT && packet.Stat == nil
	}
	if err := stream.SendMsg(&types.Packet{Type: types.PACKET_FIN}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for err == nil {
		err = stream.RecvMsg(&types.Packet{})
	}
	if err == io.EOF {
		err = nil
	}
	return err
}

// CheckSession asks the client whether it serves, as buildkitd does every five seconds.
func (b *Build) CheckSession(ctx context.Context) error {
	_, err := grpc_health_v1.NewHealthClient(b.Session.Conn()).Check(b.Session.Context(ctx), &grpc_health_v1.HealthCheckRequest{})
	return err
}

type paced struct {
	grpc.ClientStream
	sync Sync
}

func (p *paced) RecvMsg(message any) error {
	if p.sync.Pace != nil {
		p.sync.Pace()
	}
	if err := p.ClientStream.RecvMsg(message); err != nil {
		return err
	}
	if packet, ok := message.(*types.Packet); ok && p.sync.Received != nil {
		p.sync.Received(packet)
	}
	return nil
}

func (p *paced) SendMsg(message any) error {
	err := p.ClientStream.SendMsg(message)
	if packet, ok := message.(*types.Packet); ok && err == nil && p.sync.Sent != nil {
		p.sync.Sent(packet)
	}
	return err
}
