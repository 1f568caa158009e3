package rig

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// far is a server on loopback that says back what it is told, or swallows it and says how much it was.
func far(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func echo(conn net.Conn) { _, _ = io.Copy(conn, conn) }

func swallow(conn net.Conn) {
	n, _ := io.Copy(io.Discard, conn)
	fmt.Fprint(conn, n)
}

func pour(conn net.Conn) {
	var n int64
	if _, err := fmt.Fscan(conn, &n); err == nil {
		_, _ = conn.Write(make([]byte, n))
	}
}

func closeTo(t *testing.T, what string, got, wanted float64) {
	t.Helper()
	if got < 0.9*wanted || got > 1.1*wanted {
		t.Errorf("%s: %.4g, not %.4g", what, got, wanted)
	} else {
		t.Logf("%s: %.4g, wanted %.4g", what, got, wanted)
	}
}

// The test's own binary is what runs at the near end: it measures and says what it found.
func TestMain(m *testing.M) {
	if undone := os.Getenv("RIG_INTERRUPTED"); undone != "" {
		interruptedProgram(undone)
	}
	if len(os.Args) > 3 && os.Args[1] == "near" {
		if err := near(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const rateBytes = 4 << 20

func near(what, address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	began := time.Now()
	switch what {
	case "trip":
		best := time.Hour
		for range 6 {
			began = time.Now()
			if _, err := conn.Write([]byte{1}); err != nil {
				return err
			}
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				return err
			}
			best = min(best, time.Since(began))
		}
		fmt.Println(best.Seconds())
	case "up":
		if _, err := conn.Write(make([]byte, rateBytes)); err != nil {
			return err
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		if told, err := io.ReadAll(conn); err != nil || string(told) != fmt.Sprint(rateBytes) {
			return fmt.Errorf("it got %s: %v", told, err)
		}
		fmt.Println(time.Since(began).Seconds())
	case "down":
		fmt.Fprintf(conn, "%d ", rateBytes)
		if n, err := io.Copy(io.Discard, conn); err != nil || n != rateBytes {
			return fmt.Errorf("%d came: %v", n, err)
		}
		fmt.Println(time.Since(began).Seconds())
	}
	return nil
}

// A link has the rate that it was given, each way, and the round trip.
func TestLinkIsShaped(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, shape := range []Shape{{"fast", 100, 20 * time.Millisecond}, {"slow", 20, 80 * time.Millisecond}} {
		t.Run(shape.Name, func(t *testing.T) {
			t.Parallel()
			link := NewLink(t, shape)
			measure := func(what string, serve func(net.Conn)) float64 {
				t.Helper()
				proxy := link.To(t, far(t, serve))
				command := link.Enter([]string{"/proc/self/exe", "near", what, proxy.Address})
				command[len(command)-4], _ = os.Executable()
				out, err := exec.Command(command[0], command[1:]...).Output()
				if err != nil {
					t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
				}
				seconds, err := strconv.ParseFloat(string(out[:len(out)-1]), 64)
				if err != nil {
					t.Fatal(err)
				}
				if counts := proxy.Counts(); what == "up" && counts.Up != rateBytes || counts.Connections != 1 {
					t.Errorf("counted %+v", counts)
				}
				return seconds
			}
			closeTo(t, "round trip, s", measure("trip", echo), shape.RoundTrip.Seconds())
			for what, serve := range map[string]func(net.Conn){"up": swallow, "down": pour} {
				// The best of some: a busy machine leaves the line idle. Never is it faster.
				best := 0.0
				for try := 0; try < 8 && best < 0.9*shape.Megabits; try++ {
					// A connection's making and the way there and back are two round trips.
					best = max(best, 8e-6*rateBytes/(measure(what, serve)-2*shape.RoundTrip.Seconds()))
				}
				closeTo(t, "Mbit/s "+what, best, shape.Megabits)
			}
		})
	}
}

// Nothing is lost, added or put in another order, and all is counted, with many writes of any length under way at once.
func TestProxyKeepsOrder(t *testing.T) {
	t.Parallel()
	proxy := NewProxy(t, nil, far(t, echo), 30*time.Millisecond)
	conn, err := net.Dial("tcp", proxy.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 20 << 20
	sent, got := sha256.New(), sha256.New()
	go func() {
		random := rand.New(rand.NewPCG(1, 2))
		for left := size; left > 0; {
			data := make([]byte, min(left, 1+random.IntN(100_000)))
			for i := range data {
				data[i] = byte(random.Uint32())
			}
			left -= len(data)
			sent.Write(data)
			if _, err := conn.Write(data); err != nil {
				t.Error(err)
				return
			}
		}
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	if n, err := io.Copy(got, conn); n != size || err != nil {
		t.Fatalf("%d came back: %v", n, err)
	}
	if string(sent.Sum(nil)) != string(got.Sum(nil)) {
		t.Error("other bytes came back")
	}
	if counts := proxy.Counts(); counts.Up != size || counts.Down != size || counts.Connections != 1 || len(counts.Cuts) != 0 {
		t.Errorf("counted %+v", counts)
	}
	Eventually(t, Patience, "the connection is gone", func() bool { return proxy.Open() == 0 })
}

// Each cut of a plan hits a connection with bytes in flight, breaks both of its ends, and is counted; the same seed cuts at
// the same byte.
func TestProxyCuts(t *testing.T) {
	t.Parallel()
	broke := make(chan error, 100)
	target := far(t, func(conn net.Conn) {
		fmt.Fprint(conn, "!")
		_, err := io.Copy(io.Discard, conn)
		broke <- err
	})
	const cuts = 5
	proxy := NewProxy(t, nil, target, 10*time.Millisecond)
	proxy.CutEvery(7, 1<<20, cuts)
	for range cuts {
		conn, err := net.Dial("tcp", proxy.Address)
		if err != nil {
			t.Fatal(err)
		}
		// Not before it is there at the target too.
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = conn.Write(make([]byte, 10_000))
		}
		conn.Close()
	}
	counts := proxy.Counts()
	if len(counts.Cuts) != cuts || counts.Connections != cuts {
		t.Fatalf("counted %+v", counts)
	}
	for _, hit := range counts.Cuts {
		if hit.Up == 0 {
			t.Errorf("a cut hit nothing: %+v", counts.Cuts)
		}
	}
	// A plan that is over leaves connections alone.
	conn, err := net.Dial("tcp", proxy.Address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if _, err := conn.Write(make([]byte, 8<<20)); err != nil {
		t.Error(err)
	}
	proxy.Refuse(true)
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("an end of a cut connection says nothing")
	}
	if refused, err := net.Dial("tcp", proxy.Address); err == nil {
		if _, err := refused.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("a connection was not refused: %v", err)
		}
		refused.Close()
	}
	proxy.Refuse(false)
	again, err := net.Dial("tcp", proxy.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	proxy.Silence(300 * time.Millisecond)
	began := time.Now()
	if _, err := again.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	_ = again.(*net.TCPConn).CloseWrite()
	if _, err := again.Read(make([]byte, 1)); err != io.EOF || time.Since(began) < 300*time.Millisecond {
		t.Errorf("silence ended after %v: %v", time.Since(began), err)
	}
	for range cuts {
		if err := <-broke; err == nil {
			t.Error("a target saw its connection end well")
		}
	}
}
