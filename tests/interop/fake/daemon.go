package fake

import (
	"context"
	"net"
	"sync"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	apitypes "github.com/moby/buildkit/api/types"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/grpchijack"
	"github.com/moby/buildkit/solver/pb"
	opspb "github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The limits of the real daemon: how long calls wait for the Solve that they belong to.
const (
	bridgePatience = 3 * time.Second
	statusPatience = 6 * time.Second
)

const messageMax = 16 << 20

// Daemon is a buildkitd whose builds are one Go function.
type Daemon struct {
	Address string
	// Build is what a Solve does. Set it before the first one; several may run at once.
	Build func(ctx context.Context, b *Build) error

	controlapi.UnimplementedControlServer
	bridge   bridge
	server   *grpc.Server
	health   *health.Server
	sessions *session.Manager

	mutex   sync.Mutex
	changed *sync.Cond
	builds  map[string]*Build
	counts  Counts
}

// Counts is what a daemon has seen.
type Counts struct {
	Solves, Running, RunningMost, Sessions int
}

// Build is one Solve in progress.
type Build struct {
	Request *controlapi.SolveRequest
	// Session of the client that began it.
	Session session.Caller

	daemon   *Daemon
	returned chan struct{}
	ended    chan struct{}
	progress chan *controlapi.StatusResponse
}

// NewDaemon listens on a free loopback port, or on the address given.
func NewDaemon(address string, build func(ctx context.Context, b *Build) error) (*Daemon, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	sessions, err := session.NewManager()
	if err != nil {
		return nil, err
	}
	d := &Daemon{Address: listener.Addr().String(), Build: build, sessions: sessions, builds: map[string]*Build{},
		health: health.NewServer(), server: grpc.NewServer(grpc.MaxRecvMsgSize(messageMax), grpc.MaxSendMsgSize(messageMax))}
	d.changed = sync.NewCond(&d.mutex)
	d.bridge.daemon = d
	controlapi.RegisterControlServer(d.server, d)
	gateway.RegisterLLBBridgeServer(d.server, &d.bridge)
	grpc_health_v1.RegisterHealthServer(d.server, d.health)
	go func() { _ = d.server.Serve(listener) }()
	return d, nil
}

// Kill closes everything at once, as a crash does.
func (d *Daemon) Kill() { d.server.Stop() }

// Serving is what it answers to health checks.
func (d *Daemon) Serving(serving bool) {
	state := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		state = grpc_health_v1.HealthCheckResponse_SERVING
	}
	d.health.SetServingStatus("", state)
}

// Counts so far.
func (d *Daemon) Counts() Counts {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.counts
}

// find waits until the Solve is there, at most that long.
func (d *Daemon) find(ctx context.Context, ref string, patience time.Duration) (*Build, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		d.mutex.Lock()
		defer d.mutex.Unlock()
		d.changed.Broadcast()
	})
	defer stop()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for d.builds[ref] == nil {
		if ctx.Err() != nil {
			return nil, status.Errorf(codes.NotFound, "no such job %s", ref)
		}
		d.changed.Wait()
	}
	return d.builds[ref], nil
}

// Solve as buildkitd's: it answers when the build has ended.
func (d *Daemon) Solve(ctx context.Context, request *controlapi.SolveRequest) (*controlapi.SolveResponse, error) {
	b := &Build{Request: request, daemon: d, returned: make(chan struct{}, 1), ended: make(chan struct{}),
		progress: make(chan *controlapi.StatusResponse, 16)}
	d.mutex.Lock()
	d.builds[request.Ref] = b
	probe := request.Frontend == "" && request.Definition == nil
	if !probe {
		d.counts.Solves++
		d.counts.Running++
		d.counts.RunningMost = max(d.counts.RunningMost, d.counts.Running)
	}
	d.changed.Broadcast()
	d.mutex.Unlock()
	defer func() {
		d.mutex.Lock()
		defer d.mutex.Unlock()
		if !probe {
			d.counts.Running--
		}
		close(b.ended) // and kept: Status may come later than the end
	}()
	if probe {
		// A client that drives the build itself: clients probe with it what a daemon can do.
		select {
		case <-b.returned:
			return &controlapi.SolveResponse{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	caller, err := d.sessions.Get(waiting, request.Session, false)
	if err != nil {
		return nil, status.Errorf(codes.Unknown, "no active session for %s: %v", request.Session, err)
	}
	b.Session = caller
	if err := d.Build(ctx, b); err != nil {
		return nil, err
	}
	return &controlapi.SolveResponse{ExporterResponse: map[string]string{"fake": "yes"}}, nil
}

// Status as buildkitd's: the build's progress until it ends.
func (d *Daemon) Status(request *controlapi.StatusRequest, stream controlapi.Control_StatusServer) error {
	b, err := d.find(stream.Context(), request.Ref, statusPatience)
	if err != nil {
		return err
	}
	for {
		select {
		case response := <-b.progress:
			if err := stream.Send(response); err != nil {
				return err
			}
		case <-b.ended:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// Say writes a line of progress under a vertex of its own.
func (b *Build) Say(text string) {
	now := timestamppb.Now()
	vertex := "sha256:fa4e000000000000000000000000000000000000000000000000000000000000"
	b.progress <- &controlapi.StatusResponse{
		Vertexes: []*controlapi.Vertex{{Digest: vertex, Name: "fake", Started: now}},
		Logs:     []*controlapi.VertexLog{{Vertex: vertex, Timestamp: now, Stream: 1, Msg: []byte(text + "\n")}},
	}
}

// Session as buildkitd's.
func (d *Daemon) Session(stream controlapi.Control_SessionServer) error {
	d.mutex.Lock()
	d.counts.Sessions++
	d.mutex.Unlock()
	conn, closed, options := grpchijack.Hijack(stream)
	defer conn.Close()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		<-closed
		cancel()
	}()
	return d.sessions.HandleConn(ctx, conn, options)
}

func workers() []*apitypes.WorkerRecord {
	return []*apitypes.WorkerRecord{{ID: "fake", Labels: map[string]string{"org.mobyproject.buildkit.worker.executor": "oci"},
		Platforms:       []*pb.Platform{{OS: "linux", Architecture: "amd64"}},
		BuildkitVersion: version()}}
}

func version() *apitypes.BuildkitVersion {
	return &apitypes.BuildkitVersion{Package: "github.com/moby/buildkit", Version: "v0.32.2", Revision: "fake"}
}

// ListWorkers as buildkitd's.
func (d *Daemon) ListWorkers(context.Context, *controlapi.ListWorkersRequest) (*controlapi.ListWorkersResponse, error) {
	return &controlapi.ListWorkersResponse{Record: workers()}, nil
}

// Info as buildkitd's.
func (d *Daemon) Info(context.Context, *controlapi.InfoRequest) (*controlapi.InfoResponse, error) {
	return &controlapi.InfoResponse{BuildkitVersion: version()}, nil
}

// ListenBuildHistory has nothing to tell.
func (d *Daemon) ListenBuildHistory(*controlapi.BuildHistoryRequest, controlapi.Control_ListenBuildHistoryServer) error {
	return nil
}

type bridge struct {
	gateway.UnimplementedLLBBridgeServer
	daemon *Daemon
}

func (b *bridge) build(ctx context.Context) (*Build, error) {
	ids := metadata.ValueFromIncomingContext(ctx, "buildkit-controlapi-buildid")
	if len(ids) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no build id")
	}
	return b.daemon.find(ctx, ids[0], bridgePatience)
}

func (b *bridge) Ping(ctx context.Context, _ *gateway.PingRequest) (*gateway.PongResponse, error) {
	if _, err := b.build(ctx); err != nil {
		return nil, err
	}
	return &gateway.PongResponse{FrontendAPICaps: gateway.Caps.All(), LLBCaps: opspb.Caps.All(), Workers: workers()}, nil
}

func (b *bridge) Return(ctx context.Context, _ *gateway.ReturnRequest) (*gateway.ReturnResponse, error) {
	build, err := b.build(ctx)
	if err != nil {
		return nil, err
	}
	build.returned <- struct{}{}
	return &gateway.ReturnResponse{}, nil
}

// DiskUsage tells one record, whose description is the daemon's address.
func (d *Daemon) DiskUsage(context.Context, *controlapi.DiskUsageRequest) (*controlapi.DiskUsageResponse, error) {
	return &controlapi.DiskUsageResponse{Record: []*controlapi.UsageRecord{{ID: "fake", Description: d.Address, Size: 1,
		CreatedAt: timestamppb.Now()}}}, nil
}
