package demo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxInFlight bounds the requests under way. A request that finds no free
// worker is not sent and counted as shed.
const maxInFlight = 256

// A load sends requests at random instants, at a given mean rate, whether or
// not the ones before were answered.
type load struct {
	url  string
	rate float64 // per second

	sent, shed, unanswered atomic.Int64
}

// run sends requests until ctx ends and waits for those under way.
func (l *load) run(ctx context.Context) error {
	client := &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: maxInFlight, IdleConnTimeout: 30 * time.Second},
		Timeout:   10 * time.Second,
	}
	defer client.CloseIdleConnections()
	work := make(chan struct{})
	var workers sync.WaitGroup
	for range maxInFlight {
		workers.Go(func() {
			for range work {
				if err := l.send(client); err != nil {
					l.unanswered.Add(1)
				}
			}
		})
	}
	defer workers.Wait()
	defer close(work)
	next := time.Now()
	for {
		next = next.Add(time.Duration(rand.ExpFloat64() / l.rate * float64(time.Second)))
		if wait := time.Until(next); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
		} else if ctx.Err() != nil {
			return nil
		} else if wait < -time.Second {
			next = time.Now() // the machine slept; do not catch up in a burst
		}
		select {
		case work <- struct{}{}:
			l.sent.Add(1)
		default:
			l.shed.Add(1)
		}
	}
}

// send makes one request; any status is an answer.
func (l *load) send(client *http.Client) error {
	resp, err := client.Post(l.url, "application/json", strings.NewReader(`{"profile":"p-17"}`))
	if err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}
