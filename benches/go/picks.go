package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

// watched is round_robin's builder under another name: it shows the pickers that it publishes.
type watched struct{ pickers chan balancer.Picker }

// watchedConn is the channel as round_robin sees it.
type watchedConn struct {
	balancer.ClientConn
	pickers chan balancer.Picker
}

func (watched) Name() string { return "bench_watched" }

func (w watched) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	return balancer.Get("round_robin").Build(watchedConn{conn, w.pickers}, options)
}

func (w watchedConn) UpdateState(state balancer.State) {
	if state.ConnectivityState == connectivity.Ready {
		// The last one counts: there are no more of them than there are changes.
		w.pickers <- state.Picker
	}
	w.ClientConn.UpdateState(state)
}

// distinct is how many backends a picker has.
func distinct(picker balancer.Picker, atMost int, info balancer.PickInfo) int {
	seen := map[balancer.SubConn]bool{}
	for i := 0; i < 2*atMost; i++ {
		if result, err := picker.Pick(info); err == nil {
			seen[result.SubConn] = true
		}
	}
	return len(seen)
}

// picks measures the choice alone, of as many threads at once as it is told.
func picks(arguments []string) error {
	flags := flag.NewFlagSet("bench-go pick", flag.ExitOnError)
	count := flags.Int("count", 1000000, "how many picks")
	threads := flags.Int("threads", 1, "how many threads pick at once")
	_ = flags.Parse(arguments[1:])
	runtime.GOMAXPROCS(*threads)

	watch := watched{make(chan balancer.Picker, 1024)}
	balancer.Register(watch)
	backends := register(arguments[0])
	conn, err := grpc.Dial("bench:///echo", grpc.WithInsecure(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"bench_watched":{}}]}`))
	if err != nil {
		return err
	}
	defer conn.Close()
	connect(conn)

	info := balancer.PickInfo{FullMethodName: "/bench.Echo/Unary", Ctx: context.Background()}
	var picker balancer.Picker
	for late := time.After(10 * time.Second); picker == nil || distinct(picker, backends, info) < backends; {
		select {
		case picker = <-watch.pickers:
		case <-late:
			return fmt.Errorf("no picker of %d backends after 10 s", backends)
		}
	}
	// A variable of its own: one that is still assigned to would be read anew for each pick.
	chosen := picker
	var tasks sync.WaitGroup
	each := *count / *threads
	start := time.Now()
	for i := 0; i < *threads; i++ {
		tasks.Add(1)
		go func() {
			defer tasks.Done()
			for n := 0; n < each; n++ {
				if _, err := chosen.Pick(info); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
			}
		}()
	}
	tasks.Wait()
	spent := time.Since(start)
	fmt.Printf("{\"ns_per_pick\":%.2f}\n", float64(spent.Nanoseconds())/float64(each**threads))
	return nil
}
