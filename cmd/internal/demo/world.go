package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/errgroup"
)

// The versions that the two model servers serve, and that the endpoint tells.
const (
	StableVersion    = "2026.11.1"
	CandidateVersion = "2026.11.2"
)

// Options say what world to open.
type Options struct {
	// Dir holds everything the demo writes; it exists.
	Dir   string
	Fault Fault
	Speed Speed
	// Router moves the weights; RouterWebhook when empty.
	Router Router
	// Answers are the lines y and n of a person who is asked before the 60% step;
	// with nil the policy has no approval. The demo closes it.
	Answers io.ReadCloser
	// Show is called for each page that arrives; it may be nil.
	Show func(Page)
}

// A World is a running endpoint with its traffic. Open makes it, Run lives it,
// Close ends what Run does not.
type World struct {
	Files

	opts     Options
	models   map[string]*modelServer
	endpoint *endpoint
	arm      *armControl // nil with RouterWebhook
	log      *requestLog
	load     *load
	pager    *pager
	nats     *server.Server
	servers  []served
	opened   []*os.File

	mu sync.Mutex
	// faultAt is when the fault began; zero before.
	faultAt time.Time
	// changes are the endpoint's splits since the beginning.
	changes []change
	// trouble is closed, and troubled set, when the candidate has reached the
	// step at which something is to go wrong.
	trouble  chan struct{}
	troubled bool
}

// A change is a split of the endpoint and since when it held.
type change struct {
	at      time.Time
	weights map[string]int
}

// served is a listening server.
type served struct {
	listener net.Listener
	server   *http.Server
}

// Open listens on free loopback ports, starts the nats-server and writes the
// policy and the config file. Nothing is served before Run.
func Open(o Options) (*World, error) {
	w := &World{Files: filesIn(o.Dir), opts: o, trouble: make(chan struct{})}
	if err := w.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the demo's world: %w", err), w.Close())
	}
	return w, nil
}

func (w *World) open() error {
	w.models = map[string]*modelServer{
		Stable:    newModelServer(Stable, StableVersion, w.opts.Speed),
		Candidate: newModelServer(Candidate, CandidateVersion, w.opts.Speed),
	}
	backends := map[string]*url.URL{}
	for _, name := range []string{Stable, Candidate} {
		addr, err := w.listen(w.models[name].handler())
		if err != nil {
			return err
		}
		backends[name] = &url.URL{Scheme: "http", Host: addr}
	}
	requests, err := w.create(w.RequestLog)
	if err != nil {
		return err
	}
	w.log = newRequestLog(requests)
	w.endpoint = newEndpoint(backends, w.log)
	w.endpoint.changed = w.onChange
	if _, err := w.endpoint.set(map[string]int{Stable: 100}, -1); err != nil {
		return err
	}
	door := &contract{endpoint: w.endpoint, versions: map[string]string{Stable: StableVersion,
		Candidate: CandidateVersion}}
	handler := door.handler()
	if w.opts.Router == RouterAzureML {
		handler = door.scoring()
	}
	addr, err := w.listen(handler)
	if err != nil {
		return err
	}
	door.base = "http://" + addr
	w.load = &load{url: door.base + "/score", rate: w.opts.Speed.rate()}
	pages, err := w.create(w.Pages)
	if err != nil {
		return err
	}
	w.pager = &pager{secret: rand.Text(), show: w.opts.Show, file: pages, seen: map[string]bool{}}
	pagerAddr, err := w.listen(w.pager)
	if err != nil {
		return err
	}
	resourceManager := ""
	if w.opts.Router == RouterAzureML {
		if resourceManager, err = w.openARM(door.base + "/score"); err != nil {
			return err
		}
	}
	if w.nats, err = startNATS(w.JetStream); err != nil {
		return err
	}
	return w.write(addresses{
		Endpoint: door.base, Pager: "http://" + pagerAddr, NATS: w.nats.ClientURL(), ResourceManager: resourceManager,
		StableModel: backends[Stable].String(), OtherModel: backends[Candidate].String(),
	})
}

// openARM listens as Azure Resource Manager and returns its address.
func (w *World) openARM(scoringURI string) (string, error) {
	writes, err := w.create(w.Writes)
	if err != nil {
		return "", err
	}
	token := rand.Text()
	if err := writeFile(w.ARMToken, token+"\n"); err != nil {
		return "", err
	}
	if w.arm, err = newARM(w.endpoint, scoringURI, token, w.opts.Speed, writes); err != nil {
		return "", err
	}
	addr, err := w.listen(w.arm.server)
	return "http://" + addr, err
}

// write puts the policy, the config file and the pager's secret into the folder.
func (w *World) write(a addresses) error {
	policy, err := policyText(w.opts)
	if err != nil {
		return err
	}
	config, err := configText(w.Files, a)
	if err != nil {
		return err
	}
	return errors.Join(writeFile(w.Policy, policy), writeFile(w.Config, config),
		writeFile(w.PagerSecret, w.pager.secret+"\n"))
}

func (w *World) create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	w.opened = append(w.opened, f)
	return f, nil
}

// listen takes a free loopback port for h and returns its address.
func (w *World) listen(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	w.servers = append(w.servers, served{l, &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}})
	return l.Addr().String(), nil
}

// Run serves requests and sends the load until ctx ends.
func (w *World) Run(ctx context.Context) error {
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	g, _ := errgroup.WithContext(ctx)
	for _, s := range w.servers {
		g.Go(func() error {
			if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				stopLoad()
				return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error { return w.log.run(serving) })
	if w.arm != nil {
		g.Go(func() error { return w.arm.run(serving) })
	}
	g.Go(func() error { return w.disturb(loading) })
	g.Go(func() error {
		err := w.load.run(loading)
		// Only now, with the last request answered, the servers may go.
		stopServing()
		for _, s := range w.servers {
			err = errors.Join(err, s.server.Close())
		}
		return err
	})
	return g.Wait()
}

// Close ends the nats-server, gives the ports back and closes the files. Run has
// returned, or was never called.
func (w *World) Close() error {
	var errs []error
	for _, s := range w.servers {
		errs = append(errs, s.server.Close())
		if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if w.nats != nil {
		w.nats.Shutdown()
		w.nats.WaitForShutdown()
	}
	if w.log != nil {
		errs = append(errs, w.log.flush())
	}
	for _, f := range w.opened {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// PagesReceived are the pages that reached the pager, oldest first.
func (w *World) PagesReceived() []Page { return w.pager.all() }
