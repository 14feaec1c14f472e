package demo

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/webhook"
)

// A Page is a message that reached the demo's pager. Messages with the same Key
// are about one page: opened, told anew, resolved.
type Page struct {
	Key      string
	At       time.Time
	Severity string
	Summary  string
	Resolve  bool
}

// String is the page as the screen shows it.
func (p Page) String() string {
	word := "PAGE"
	if p.Resolve {
		word = "PAGE RESOLVED"
	}
	return fmt.Sprintf("%s [%s] %s", word, cmp.Or(p.Severity, "info"), p.Summary)
}

// A pager receives what notifier/webhook sends, checks its signature and shows
// the pages.
type pager struct {
	secret string
	show   func(Page)
	file   io.Writer

	mu    sync.Mutex
	pages []Page
	seen  map[string]bool // deliveries, so that a repeated one is shown once
}

// ServeHTTP takes one event. Only pages are shown; other topics are taken and
// dropped.
func (p *pager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, "read body", http.StatusBadRequest)
		return
	}
	if err := webhook.Verify(r.Header, body, p.secret, time.Now()); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var event struct {
		ID   string          `json:"id"`
		Data notifier.Notice `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		http.Error(w, "the body is not a CloudEvent", http.StatusBadRequest)
		return
	}
	if n := event.Data; n.Topic == notifier.TopicPage {
		p.take(event.ID, Page{Key: n.Key, At: time.Now(), Severity: string(n.Severity), Summary: n.Summary,
			Resolve: n.Resolve})
	}
	w.WriteHeader(http.StatusNoContent)
}

// take keeps a page, writes it down and shows it, once per delivery.
func (p *pager) take(id string, page Page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[id] {
		return
	}
	p.seen[id] = true
	p.pages = append(p.pages, page)
	_, _ = fmt.Fprintf(p.file, "%s %s\n", page.At.UTC().Format(time.RFC3339Nano), page)
	if p.show != nil {
		p.show(page)
	}
}

// all returns the pages so far, oldest first.
func (p *pager) all() []Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.pages)
}
