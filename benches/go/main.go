// The bench's client on grpc-go: the same arguments and the same object as bench-client's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// payload is bench.Payload: bytes in field 1.
type payload struct{ bytes []byte }

// codec is protobuf's for that one message, by hand, which is cheaper than generated code.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v interface{}) ([]byte, error) {
	message := v.(*payload).bytes
	out := make([]byte, 0, len(message)+11)
	out = append(out, 0x0a)
	length := uint64(len(message))
	for length >= 0x80 {
		out = append(out, byte(length)|0x80)
		length >>= 7
	}
	out = append(out, byte(length))
	return append(out, message...), nil
}

func (codec) Unmarshal(data []byte, v interface{}) error {
	if len(data) < 2 || data[0] != 0x0a {
		return errors.New("not the bench's message")
	}
	at := 1
	for data[at] >= 0x80 && at < len(data)-1 {
		at++
	}
	v.(*payload).bytes = append([]byte(nil), data[at+1:]...)
	return nil
}

func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func run(conn *grpc.ClientConn, concurrency, size int, length time.Duration) (ok, failed int, latencies []time.Duration) {
	var lock sync.Mutex
	var tasks sync.WaitGroup
	message := &payload{make([]byte, size)}
	end := time.Now().Add(length)
	for i := 0; i < concurrency; i++ {
		tasks.Add(1)
		go func() {
			defer tasks.Done()
			mine := make([]time.Duration, 0, 1<<14)
			lost := 0
			for start := time.Now(); start.Before(end); {
				var answer payload
				err := conn.Invoke(context.Background(), "/bench.Echo/Unary", message, &answer, grpc.ForceCodec(codec{}))
				now := time.Now()
				if err != nil {
					lost++
				} else {
					mine = append(mine, now.Sub(start))
				}
				start = now
			}
			lock.Lock()
			defer lock.Unlock()
			latencies = append(latencies, mine...)
			failed += lost
		}()
	}
	tasks.Wait()
	return len(latencies), failed, latencies
}

// register makes the addresses, with commas between them, what bench: targets resolve to, and says
// how many they are.
func register(addresses string) int {
	var state resolver.State
	for _, address := range strings.Split(addresses, ",") {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	fixed := manual.NewBuilderWithScheme("bench")
	fixed.InitialState(state)
	resolver.Register(fixed)
	return len(state.Addresses)
}

// connect waits for the first connection.
func connect(conn *grpc.ClientConn) {
	wait, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for conn.GetState() != connectivity.Ready {
		if !conn.WaitForStateChange(wait, conn.GetState()) {
			fmt.Fprintln(os.Stderr, "not connected after 10 s")
			os.Exit(1)
		}
	}
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "pick" {
		if err := picks(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// The contender's name and the addresses come before the flags.
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: bench-go CONTENDER ADDRESSES [flags]")
		os.Exit(2)
	}
	flags := flag.NewFlagSet("bench-go", flag.ExitOnError)
	concurrency := flags.Int("concurrency", 1, "how many at a time")
	size := flags.Int("size", 16, "bytes of payload")
	length := flags.Int("time", 1000, "for how long, in milliseconds")
	warmUp := flags.Int("warm-up", 0, "for how long before that")
	_ = flags.Parse(os.Args[3:])
	// As the Rust clients: one thread does the work.
	runtime.GOMAXPROCS(1)

	register(os.Args[2])
	conn, err := grpc.Dial("bench:///echo", grpc.WithInsecure(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	connect(conn)
	// All backends, not the first alone.
	run(conn, *concurrency, *size, 50*time.Millisecond+time.Duration(*warmUp)*time.Millisecond)

	start, before := time.Now(), cpu()
	ok, failed, latencies := run(conn, *concurrency, *size, time.Duration(*length)*time.Millisecond)
	elapsed, spent := time.Since(start), cpu()-before
	sort.Slice(latencies, func(a, b int) bool { return latencies[a] < latencies[b] })
	at := func(quantile float64) int64 {
		if len(latencies) == 0 {
			return 0
		}
		return latencies[int(quantile*float64(len(latencies)-1))].Microseconds()
	}
	fmt.Printf("{\"ok\":%d,\"failed\":%d,\"rps\":%.0f,\"cpu_us\":%.3f,\"p50_us\":%d,\"p99_us\":%d,\"p999_us\":%d}\n",
		ok, failed, float64(ok)/elapsed.Seconds(), float64(spent.Microseconds())/float64(max(ok, 1)),
		at(0.5), at(0.99), at(0.999))
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}
