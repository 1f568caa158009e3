package rig

import (
	"fmt"
	"net"
	"strconv"
	"time"
)

// Shape is how a link is: so many Mbit/s each way, 0 for as fast as it goes, and a round trip.
type Shape struct {
	Name      string
	Megabits  float64
	RoundTrip time.Duration
}

// Link is a pair of network namespaces with a shaped line between them. Programs run at the near end (Enter); at the far end
// are proxies (To), which pass on to servers on the host's loopback. The namespaces end with the scope, or with the run.
//
// The token buckets shape the line; the proxies add the round trip. A congestion window therefore never sees the long way:
// TCP is as good as it can be, and what is measured is what is done with it.
type Link struct {
	Shape     Shape
	near, far int // processes that hold the namespaces
}

const (
	nearAddress, farAddress = "10.77.0.2", "10.77.0.1"
	// Tokens that may be saved up: some ms of the line.
	bucketBytes = 16 << 10
	// What the line queues before it drops, as time.
	queueTime = 50 * time.Millisecond
)

// NewLink makes one. Without a rate there are no namespaces: all is on the host's loopback.
func NewLink(s Scope, shape Shape) *Link {
	s.Helper()
	l := &Link{Shape: shape}
	if shape.Megabits == 0 {
		return l
	}
	l.near, l.far = holdNamespace(s), holdNamespace(s)
	ip := func(holder int, arguments ...string) {
		s.Helper()
		run(s, "nsenter", append([]string{"--net=" + namespace(holder), "--"}, arguments...)...)
	}
	ip(l.near, "ip", "link", "add", "line", "type", "veth", "peer", "name", "line", "netns", strconv.Itoa(l.far))
	for holder, address := range map[int]string{l.near: nearAddress, l.far: farAddress} {
		ip(holder, "ip", "address", "add", address+"/24", "dev", "line")
		ip(holder, "ip", "link", "set", "lo", "up")
		ip(holder, "ip", "link", "set", "line", "up")
		ip(holder, "tc", "qdisc", "add", "dev", "line", "root", "tbf", "rate", fmt.Sprintf("%.0fkbit", shape.Megabits*1000),
			"burst", strconv.Itoa(bucketBytes), "limit", strconv.Itoa(max(64<<10, int(shape.Megabits*1e6/8*queueTime.Seconds()))))
	}
	return l
}

// To is a proxy at the far end that passes on to a server on the host.
func (l *Link) To(s Scope, target string) *Proxy {
	s.Helper()
	if l.far == 0 {
		return NewProxy(s, nil, target, l.Shape.RoundTrip)
	}
	listener, err := listenIn(namespace(l.far), farAddress+":0")
	if err != nil {
		s.Fatalf("%v", err)
	}
	return NewProxy(s, listener, target, l.Shape.RoundTrip)
}

// Enter makes of a command one that runs at the near end.
func (l *Link) Enter(command []string) []string {
	if l.near == 0 {
		return command
	}
	return append([]string{"nsenter", "--net=" + namespace(l.near), "--"}, command...)
}

// Dial connects from the near end.
func (l *Link) Dial(network, address string) (conn net.Conn, err error) {
	if l.near == 0 {
		return net.Dial(network, address)
	}
	err = within(namespace(l.near), func() (err error) {
		conn, err = net.Dial(network, address)
		return err
	})
	return conn, err
}
