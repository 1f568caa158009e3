package rig

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Proxy passes TCP connections on to a target as a long line would: what goes in at one end comes out at the other half a
// round trip later, in order, at whatever rate. It counts payload bytes, and cuts connections when it is told to.
type Proxy struct {
	Address  string
	listener net.Listener
	target   string
	oneWay   time.Duration
	silent   atomic.Int64 // nothing comes out before this time, in ns

	mutex    sync.Mutex
	passages map[*passage]bool
	counts   Counts
	refusing bool
	plan     *plan
	closed   bool
	all      sync.WaitGroup
}

// Counts are what went in at either end, whether or not it came out at the other.
type Counts struct {
	Up, Down    int64 // payload bytes from the client, to the client
	Connections int
	Cuts        []Hit
}

// Total of both directions.
func (c Counts) Total() int64 { return c.Up + c.Down }

// Since is what was added after an earlier count.
func (c Counts) Since(before Counts) Counts {
	return Counts{Up: c.Up - before.Up, Down: c.Down - before.Down, Connections: c.Connections - before.Connections,
		Cuts: c.Cuts[len(before.Cuts):]}
}

// Hit is what was under way in a connection when it was cut, and is lost.
type Hit struct{ Up, Down int64 }

const (
	// What may be under way in one direction of a connection: 16 MiB is 1.6 s of 80 Mbit/s. Beyond, it is not read.
	flightBytesMax = 16 << 20
	// What is read at once.
	pieceBytes = 64 << 10
	// What the kernel is asked to hold for the line: on a busy machine the proxy may not run for some ms, and the line goes on.
	lineBytes = 256 << 10
)

// NewProxy makes one that listens where the listener does; nil: on a loopback port. It ends with the scope.
func NewProxy(s Scope, listener net.Listener, target string, roundTrip time.Duration) *Proxy {
	s.Helper()
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			s.Fatalf("%v", err)
		}
	}
	p := &Proxy{Address: listener.Addr().String(), listener: listener, target: target, oneWay: roundTrip / 2, passages: map[*passage]bool{}}
	p.all.Add(1)
	go p.accept()
	s.Cleanup(p.Close)
	return p
}

// Close cuts what is open and waits until all of it has ended.
func (p *Proxy) Close() {
	p.mutex.Lock()
	p.closed = true
	p.mutex.Unlock()
	p.listener.Close()
	p.Cut()
	p.all.Wait()
}

// Counts so far.
func (p *Proxy) Counts() Counts {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	c := p.counts
	c.Cuts = append([]Hit(nil), c.Cuts...)
	return c
}

// Open is how many connections there are now.
func (p *Proxy) Open() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.passages)
}

// Cut resets all connections that are open now, both ends.
func (p *Proxy) Cut() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for passage := range p.passages {
		p.cutLocked(passage)
	}
}

// Refuse resets all connections that are open or come, until it is told otherwise.
func (p *Proxy) Refuse(refuse bool) {
	p.mutex.Lock()
	p.refusing = refuse
	p.mutex.Unlock()
	if refuse {
		p.Cut()
	}
}

// Silence lets nothing come out at either end for so long; nothing is lost.
func (p *Proxy) Silence(lasting time.Duration) {
	p.silent.Store(time.Now().Add(lasting).UnixNano())
}

// plan cuts a connection when the bytes of a random count have passed, again and again.
type plan struct {
	random *rand.Rand
	left   int   // cuts
	every  int64 // bytes, on average
	next   int64 // bytes from here to the next cut
}

func (p *plan) draw() { p.next = 1 + p.random.Int64N(2*p.every) }

// CutEvery cuts, so many times, the connection that carries the byte at which a random count from the last cut is
// reached. Bytes of it are in flight then: at least those.
func (p *Proxy) CutEvery(seed uint64, bytes int64, times int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.plan = &plan{random: rand.New(rand.NewPCG(seed, 0)), left: times, every: bytes}
	p.plan.draw()
}

func (p *Proxy) accept() {
	defer p.all.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		_ = client.(*net.TCPConn).SetWriteBuffer(lineBytes)
		p.mutex.Lock()
		if p.closed || p.refusing {
			p.mutex.Unlock()
			reset(client)
			continue
		}
		passage := &passage{proxy: p, client: client, ended: make(chan struct{}), up: newFlow(), down: newFlow()}
		p.passages[passage] = true
		p.counts.Connections++
		p.all.Add(1)
		p.mutex.Unlock()
		go passage.run(time.Now())
	}
}

// took counts what went in, and tells whether the connection is to be cut there.
func (p *Proxy) took(passage *passage, up bool, bytes int64) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if up {
		p.counts.Up += bytes
	} else {
		p.counts.Down += bytes
	}
	if p.plan == nil || p.plan.left == 0 {
		return
	}
	// What was read of a connection that has been cut meanwhile is no reason to count another cut.
	if p.plan.next -= bytes; p.plan.next <= 0 && p.cutLocked(passage) {
		p.plan.left--
		p.plan.draw()
	}
}

func (p *Proxy) cutLocked(passage *passage) bool {
	if !passage.end() {
		return false
	}
	p.counts.Cuts = append(p.counts.Cuts, Hit{Up: passage.up.flight(), Down: passage.down.flight()})
	return true
}

// passage is one connection, from the client's to the target's.
type passage struct {
	proxy          *Proxy
	client, target net.Conn
	up, down       *flow
	mutex          sync.Mutex
	ended          chan struct{}
}

// end resets both sides, once; whether it was not ended before.
func (p *passage) end() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	select {
	case <-p.ended:
		return false
	default:
	}
	close(p.ended)
	reset(p.client)
	if p.target != nil {
		reset(p.target)
	}
	p.up.wake()
	p.down.wake()
	return true
}

// run carries it to its end. Over a long line a connection is there after a round trip, and the first bytes arrive half a one
// later; here it is there at once, so what comes first waits for both.
func (p *passage) run(accepted time.Time) {
	defer p.proxy.all.Done()
	opened := accepted.Add(3 * p.proxy.oneWay)
	both := sync.WaitGroup{}
	both.Add(1)
	go func() {
		defer both.Done()
		p.read(p.client, p.up, true, opened)
	}()
	if p.wait(opened) && p.dial() {
		both.Add(3)
		go func() { defer both.Done(); p.read(p.target, p.down, false, opened) }()
		go func() { defer both.Done(); p.write(p.target, p.up) }()
		go func() { defer both.Done(); p.write(p.client, p.down) }()
	} else {
		p.end()
	}
	both.Wait()
	p.proxy.mutex.Lock()
	delete(p.proxy.passages, p)
	p.proxy.mutex.Unlock()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.client.Close()
	if p.target != nil {
		p.target.Close()
	}
}

func (p *passage) dial() bool {
	target, err := net.Dial("tcp", p.proxy.target)
	if err != nil {
		return false
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	select {
	case <-p.ended:
		reset(target)
		return false
	default:
		p.target = target
		return true
	}
}

// read takes what comes in at one end, until that end has no more to say or is gone.
func (p *passage) read(from net.Conn, into *flow, up bool, opened time.Time) {
	buffer := make([]byte, pieceBytes)
	for into.room(p.ended) {
		n, err := from.Read(buffer)
		due := time.Now().Add(p.proxy.oneWay)
		if due.Before(opened) {
			due = opened
		}
		if n > 0 {
			into.put(piece{due: due, data: append([]byte(nil), buffer[:n]...)})
			p.proxy.took(p, up, int64(n))
		}
		if errors.Is(err, io.EOF) {
			into.put(piece{due: due})
			return
		}
		if err != nil {
			p.end()
			return
		}
	}
}

// write lets it out at the other end when it is due.
func (p *passage) write(to net.Conn, from *flow) {
	for {
		piece, found := from.take(p.ended)
		if !found || !p.wait(piece.due) {
			return
		}
		if piece.data == nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
		if _, err := to.Write(piece.data); err != nil {
			p.end()
			return
		}
		from.landed(len(piece.data))
	}
}

// wait until it is due, to some 100 us: timers alone would be a millisecond late. False when the passage has ended.
func (p *passage) wait(due time.Time) bool {
	const coarse = 5 * time.Millisecond
	for {
		if silent := time.Unix(0, p.proxy.silent.Load()); due.Before(silent) {
			due = silent
		}
		left := time.Until(due)
		if left <= 0 {
			select {
			case <-p.ended:
				return false
			default:
				return true
			}
		}
		if left <= coarse {
			fine := syscall.NsecToTimespec(left.Nanoseconds())
			_ = syscall.Nanosleep(&fine, nil)
			continue
		}
		timer := time.NewTimer(left - coarse + time.Millisecond)
		select {
		case <-p.ended:
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

// flow is what is under way in one direction.
type flow struct {
	mutex  sync.Mutex
	change *sync.Cond
	pieces []piece
	bytes  int64
}

// piece of the stream; without data it is the end.
type piece struct {
	due  time.Time
	data []byte
}

func newFlow() *flow {
	f := &flow{}
	f.change = sync.NewCond(&f.mutex)
	return f
}

func (f *flow) wake() {
	f.mutex.Lock()
	f.change.Broadcast()
	f.mutex.Unlock()
}

func (f *flow) flight() int64 {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.bytes
}

// room waits for some; false when the passage has ended.
func (f *flow) room(ended chan struct{}) bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for {
		select {
		case <-ended:
			return false
		default:
		}
		if f.bytes+pieceBytes <= flightBytesMax {
			return true
		}
		f.change.Wait()
	}
}

func (f *flow) put(p piece) {
	f.mutex.Lock()
	f.pieces = append(f.pieces, p)
	f.bytes += int64(len(p.data))
	f.change.Broadcast()
	f.mutex.Unlock()
}

func (f *flow) take(ended chan struct{}) (piece, bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for {
		select {
		case <-ended:
			return piece{}, false
		default:
		}
		if len(f.pieces) > 0 {
			first := f.pieces[0]
			f.pieces = f.pieces[1:]
			return first, true
		}
		f.change.Wait()
	}
}

func (f *flow) landed(bytes int) {
	f.mutex.Lock()
	f.bytes -= int64(bytes)
	f.change.Broadcast()
	f.mutex.Unlock()
}

// reset closes without a goodbye: the other side sees the connection break.
func reset(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}
