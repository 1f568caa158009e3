package fake

import (
	"context"
	"strings"

	"github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // as buildctl and buildx do: names need not be UTF-8
	"github.com/tonistiigi/fsutil"
)

// Client is BuildKit's own client with a context in memory.
type Client struct {
	Address   string // host:port, or with a scheme
	SharedKey string // as buildx makes it of directory and node; empty: none
	Internal  bool   // its builds are not recorded in the history
	conn      *client.Client
}

// Connect to a gateway, an edge or a daemon. Close ends it.
func Connect(ctx context.Context, address string) (*Client, error) {
	if !strings.Contains(address, "://") {
		address = "tcp://" + address
	}
	conn, err := client.New(ctx, address)
	if err != nil {
		return nil, err
	}
	return &Client{Address: address, SharedKey: "tree:0123456789abcdef", conn: conn}, nil
}

// Close the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Raw is BuildKit's client.
func (c *Client) Raw() *client.Client { return c.conn }

// Build solves with these directories; attributes reach the daemon's Build. It returns what progress said.
func (c *Client) Build(ctx context.Context, directories map[string]fsutil.FS, attributes map[string]string) (string, error) {
	if attributes == nil {
		attributes = map[string]string{}
	}
	updates, told := make(chan *client.SolveStatus), make(chan string, 1)
	go func() {
		var text strings.Builder
		for update := range updates {
			for _, vertex := range update.Vertexes {
				text.WriteString(vertex.Name + "\n")
				if vertex.Error != "" {
					text.WriteString(vertex.Error + "\n")
				}
			}
			for _, log := range update.Logs {
				text.Write(log.Data)
			}
		}
		told <- text.String()
	}()
	_, err := c.conn.Solve(ctx, nil, client.SolveOpt{Frontend: "fake.v0", FrontendAttrs: attributes, LocalMounts: directories,
		SharedKey: c.SharedKey, Internal: c.Internal}, updates)
	return <-told, err
}
