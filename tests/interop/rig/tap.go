package rig

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Tap passes TCP connections on to a target and reads along: the calls that were made on them, and inside a Session those of
// the other side. It is for plain HTTP/2 and small conversations: it keeps everything.
type Tap struct {
	Address string

	mutex       sync.Mutex
	connections [][]*TappedCall
	all         sync.WaitGroup
}

// TappedCall is one gRPC call: what was said, message by message.
type TappedCall struct {
	Path              string
	Fields            []string // names of its header fields, in the order of the alphabet, each once
	Values            map[string][]string
	Requests, Answers [][]byte
	Status            string        // grpc-status; "" while there is none
	Inner             []*TappedCall // of a Session: what the daemon asked of the client
}

// NewTap listens on a loopback port until the scope ends.
func NewTap(s Scope, target string) *Tap {
	s.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatalf("%v", err)
	}
	t := &Tap{Address: listener.Addr().String()}
	s.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			t.carry(client, server)
		}
	}()
	return t
}

// Calls that were made on the last connection, once all have ended.
func (t *Tap) Calls() []*TappedCall {
	t.all.Wait()
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if len(t.connections) == 0 {
		return nil
	}
	return t.connections[len(t.connections)-1]
}

func (t *Tap) carry(client, server net.Conn) {
	up, down := newTapped(&t.all), newTapped(&t.all)
	t.mutex.Lock()
	number := len(t.connections)
	t.connections = append(t.connections, nil)
	t.mutex.Unlock()
	conversation := newConversation(func(c *TappedCall) {
		t.mutex.Lock()
		defer t.mutex.Unlock()
		t.connections[number] = append(t.connections[number], c)
	})
	conversation.read(&t.all, up, down)
	pass := func(to, from net.Conn, tapped *tapped) {
		_, _ = io.Copy(io.MultiWriter(to, tapped), from)
		tapped.Close()
		_ = to.(*net.TCPConn).CloseWrite()
	}
	go pass(server, client, up)
	go pass(client, server, down)
}

// tapped is a pipe that never makes its writer wait.
type tapped struct {
	mutex  sync.Mutex
	change *sync.Cond
	buffer bytes.Buffer
	ended  bool
}

func newTapped(all *sync.WaitGroup) *tapped {
	t := &tapped{}
	t.change = sync.NewCond(&t.mutex)
	all.Add(1) // until it has been read to its end
	return t
}

func (t *tapped) Write(data []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.change.Broadcast()
	return t.buffer.Write(data)
}

func (t *tapped) Read(data []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for t.buffer.Len() == 0 {
		if t.ended {
			return 0, io.EOF
		}
		t.change.Wait()
	}
	return t.buffer.Read(data)
}

func (t *tapped) Close() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.ended = true
	t.change.Broadcast()
}

// conversation is one HTTP/2 connection, wherever it lies.
type conversation struct {
	mutex   sync.Mutex
	known   *sync.Cond // another stream
	streams map[uint32]*tappedStream
	begun   func(c *TappedCall)
	upEnded bool
}

func newConversation(begun func(c *TappedCall)) *conversation {
	c := &conversation{streams: map[uint32]*tappedStream{}, begun: begun}
	c.known = sync.NewCond(&c.mutex)
	return c
}

type tappedStream struct {
	call     *TappedCall
	up, down messages
	// of a Session: the connection inside it, whose client is the outer server
	innerUp, innerDown *tapped
}

func (c *conversation) read(all *sync.WaitGroup, up, down io.Reader) {
	go func() {
		defer all.Done()
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(up, preface); err == nil {
			c.frames(all, up, true)
		}
		_, _ = io.Copy(io.Discard, up)
		c.endInner(true)
	}()
	go func() {
		defer all.Done()
		c.frames(all, down, false)
		_, _ = io.Copy(io.Discard, down)
		c.endInner(false)
	}()
}

func (c *conversation) endInner(up bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if up {
		c.upEnded = true
		c.known.Broadcast()
	}
	for _, stream := range c.streams {
		if stream.innerUp != nil && up {
			stream.innerDown.Close()
		} else if stream.innerUp != nil {
			stream.innerUp.Close()
		}
	}
}

// frames of one direction, until it ends or makes no sense.
func (c *conversation) frames(all *sync.WaitGroup, from io.Reader, up bool) {
	framer := http2.NewFramer(io.Discard, from)
	framer.SetMaxReadFrameSize(1 << 24)
	framer.ReadMetaHeaders = hpack.NewDecoder(1<<16, nil)
	framer.MaxHeaderListSize = 1 << 24
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		c.mutex.Lock()
		// The answer may be read before the question.
		for id := frame.Header().StreamID; !up && id != 0 && c.streams[id] == nil && !c.upEnded; {
			c.known.Wait()
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			c.headers(all, frame, up)
		case *http2.DataFrame:
			if stream := c.streams[frame.StreamID]; stream != nil {
				stream.data(frame.Data(), up)
			}
		}
		c.mutex.Unlock()
	}
}

func (c *conversation) headers(all *sync.WaitGroup, frame *http2.MetaHeadersFrame, up bool) {
	stream := c.streams[frame.StreamID]
	if up && stream == nil {
		call := &TappedCall{Path: frame.PseudoValue("path"), Values: map[string][]string{}}
		for _, field := range frame.RegularFields() {
			call.Values[field.Name] = append(call.Values[field.Name], field.Value)
			call.Fields = append(call.Fields, field.Name)
		}
		slices.Sort(call.Fields)
		call.Fields = slices.Compact(call.Fields)
		stream = &tappedStream{call: call}
		c.streams[frame.StreamID] = stream
		c.begun(call)
		c.known.Broadcast()
		if call.Path == "/moby.buildkit.v1.Control/Session" {
			stream.innerUp, stream.innerDown = newTapped(all), newTapped(all)
			inner := newConversation(func(inner *TappedCall) { call.Inner = append(call.Inner, inner) })
			inner.read(all, stream.innerUp, stream.innerDown)
		}
	}
	for _, field := range frame.RegularFields() {
		if stream != nil && field.Name == "grpc-status" {
			stream.call.Status = field.Value
		}
	}
}

func (s *tappedStream) data(data []byte, up bool) {
	if up {
		s.call.Requests = s.up.take(s.call.Requests, data)
	} else {
		s.call.Answers = s.down.take(s.call.Answers, data)
	}
	if s.innerUp == nil {
		return
	}
	// BytesMessage{data: 1}: of one field, which is all there is.
	for _, message := range s.call.Requests {
		_, _ = s.innerDown.Write(payload(message))
	}
	for _, message := range s.call.Answers {
		_, _ = s.innerUp.Write(payload(message))
	}
	s.call.Requests, s.call.Answers = nil, nil
}

func payload(message []byte) []byte {
	if len(message) < 2 || message[0] != 1<<3|2 {
		return nil
	}
	_, size := binary.Uvarint(message[1:])
	return message[1+max(size, 0):]
}

// messages cuts a stream into gRPC's messages.
type messages struct{ rest []byte }

func (m *messages) take(list [][]byte, data []byte) [][]byte {
	m.rest = append(m.rest, data...)
	for len(m.rest) >= 5 {
		size := int(binary.BigEndian.Uint32(m.rest[1:5]))
		if len(m.rest) < 5+size {
			break
		}
		list = append(list, slices.Clone(m.rest[5:5+size]))
		m.rest = m.rest[5+size:]
	}
	return list
}
