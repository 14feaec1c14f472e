package bolt

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/belayd/belay/store"
)

// Iterators read in pieces, each in a transaction of its own that ends before
// the consumer sees it: a slow consumer holds nothing up, and no free page
// waits for it. These are the bounds of a piece.
const (
	pieceLen     = 128
	pieceBytes   = 1 << 20
	pieceScanned = 8192 // records looked at, whether they have the prefix or not
	namesMax     = 1 << 16
)

// Head returns the key's last record.
func (s *Store) Head(ctx context.Context, key string) (store.Record, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Record{}, fmt.Errorf("head: %w", err)
	}
	var r store.Record
	err := s.view(ctx, func(l layout) error {
		h, ok, err := l.head([]byte(key))
		if err != nil {
			return err
		}
		if !ok {
			return store.ErrNotFound
		}
		r, err = l.headOf([]byte(key), h)
		return err
	})
	if err != nil {
		return store.Record{}, fmt.Errorf("head of %s: %w", key, err)
	}
	return r, nil
}

// headOf copies a head and its entry for a receiver.
func (l layout) headOf(key []byte, h headRecord) (store.Record, error) {
	r, err := l.linked(h.revision)
	if err != nil {
		return store.Record{}, err
	}
	return store.Record{Key: string(key), Revision: h.revision, Entry: copied(r.entry), State: copied(h.state)}, nil
}

// Heads yields the last record of every key with the prefix, each as it was at
// some instant of the iteration.
func (s *Store) Heads(ctx context.Context, prefix string) iter.Seq2[store.Record, error] {
	return s.pieces(ctx, fmt.Sprintf("heads of %q", prefix), func() reader {
		return &headsReader{prefix: []byte(prefix), next: []byte(prefix)}
	})
}

type headsReader struct {
	prefix, next []byte
}

func (hr *headsReader) read(l layout, p *piece) error {
	for key, value := range from(l.heads, hr.next) {
		if !bytes.HasPrefix(key, hr.prefix) {
			return nil
		}
		if p.full() {
			hr.next, p.more = copied(key), true
			return nil
		}
		h, err := decodeHead(key, value)
		if err != nil {
			return err
		}
		r, err := l.headOf(key, h)
		if err != nil {
			return err
		}
		p.add(r)
	}
	return nil
}

// History yields the key's records as they were when the iteration began, and
// ErrNotFound, last, if the key is deleted meanwhile.
func (s *Store) History(ctx context.Context, key string) iter.Seq2[store.Record, error] {
	if err := store.CheckKey(key); err != nil {
		return func(yield func(store.Record, error) bool) {
			yield(store.Record{}, fmt.Errorf("history: %w", err))
		}
	}
	return s.pieces(ctx, "history of "+key, func() reader { return &historyReader{key: []byte(key)} })
}

type historyReader struct {
	key   []byte
	begun bool
	last  store.Record     // the head when it began
	chain []store.Revision // the ones before it still to be read, the next one last
}

func (hr *historyReader) read(l layout, p *piece) error {
	if !hr.begun {
		var err error
		if hr.last, hr.chain, err = l.chain(hr.key); err != nil {
			return err
		}
		hr.begun = true
	}
	for len(hr.chain) > 0 {
		if p.full() {
			p.more = true
			return nil
		}
		r, ok, err := l.record(hr.chain[len(hr.chain)-1])
		if err != nil {
			return err
		}
		if !ok { // Revisions are never given again, so it was deleted.
			return fmt.Errorf("%w any more: it was deleted meanwhile", store.ErrNotFound)
		}
		p.add(store.Record{Key: hr.last.Key, Revision: r.revision, Entry: copied(r.entry)})
		hr.chain = hr.chain[:len(hr.chain)-1]
	}
	p.add(hr.last)
	return nil
}

// chain returns the key's head and the revisions before it, the latest first.
func (l layout) chain(key []byte) (store.Record, []store.Revision, error) {
	h, ok, err := l.head(key)
	if err != nil {
		return store.Record{}, nil, err
	}
	if !ok {
		return store.Record{}, nil, store.ErrNotFound
	}
	last, err := l.headOf(key, h)
	if err != nil {
		return store.Record{}, nil, err
	}
	var chain []store.Revision
	for revision := h.revision; ; {
		r, err := l.linked(revision)
		if err != nil {
			return store.Record{}, nil, err
		}
		if r.previous == 0 {
			return last, chain, nil
		}
		revision = r.previous
		chain = append(chain, revision)
	}
}

// Since yields the records of all keys with the prefix after a revision, and
// goes on with those appended while it is read.
func (s *Store) Since(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
	return s.pieces(ctx, fmt.Sprintf("records of %q since %d", prefix, after), func() reader {
		return &sinceReader{prefix: prefix, after: after, names: make(map[store.Revision]string)}
	})
}

type sinceReader struct {
	prefix string
	after  store.Revision
	names  map[store.Revision]string // of first records; a revision is never given again
}

func (sr *sinceReader) read(l layout, p *piece) error {
	if sr.after == ^store.Revision(0) {
		return nil
	}
	scanned := 0
	for key, value := range from(l.log, revisionKey(sr.after+1)) {
		if scanned++; p.full() || scanned > pieceScanned {
			p.more = true
			return nil
		}
		r, err := decodeLog(key, value)
		if err != nil {
			return err
		}
		name, err := sr.name(l, r)
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, sr.prefix) {
			out, err := l.named(name, r)
			if err != nil {
				return err
			}
			p.add(out)
		}
		sr.after = r.revision
	}
	return nil
}

// name returns the key of a record, which stands in the key's first one.
func (sr *sinceReader) name(l layout, r logRecord) (string, error) {
	if name, ok := sr.names[r.first]; ok {
		return name, nil
	}
	first, err := l.linked(r.first)
	if err != nil {
		return "", err
	}
	if len(sr.names) >= namesMax {
		clear(sr.names)
	}
	sr.names[r.first] = string(first.key)
	return sr.names[r.first], nil
}

// named copies a record of the log for a receiver, with its state if it is the
// head.
func (l layout) named(name string, r logRecord) (store.Record, error) {
	h, ok, err := l.head([]byte(name))
	if err == nil && !ok {
		err = fmt.Errorf("head of %q: %w: it is missing", name, errRecord)
	}
	if err != nil {
		return store.Record{}, err
	}
	out := store.Record{Key: name, Revision: r.revision, Entry: copied(r.entry)}
	if h.revision == r.revision {
		out.State = copied(h.state)
	}
	return out, nil
}

// A reader reads the next piece of an iteration in one transaction.
type reader interface {
	read(l layout, p *piece) error
}

// A piece is what an iterator has read and not yielded yet.
type piece struct {
	records []store.Record
	bytes   int
	more    bool // there is another piece
}

func (p *piece) add(r store.Record) {
	p.records = append(p.records, r)
	p.bytes += len(r.Entry) + len(r.State)
}

func (p *piece) full() bool { return len(p.records) >= pieceLen || p.bytes >= pieceBytes }

// pieces yields the records of each piece, then the error of the last. begin is
// called whenever the iteration begins.
func (s *Store) pieces(ctx context.Context, what string, begin func() reader) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		rd := begin()
		for more := true; more; {
			var p piece
			err := s.view(ctx, func(l layout) error { return rd.read(l, &p) })
			for _, r := range p.records {
				if err := s.ready(ctx); err != nil {
					yield(store.Record{}, fmt.Errorf("%s: %w", what, err))
					return
				}
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(store.Record{}, fmt.Errorf("%s: %w", what, err))
				return
			}
			more = p.more
		}
	}
}

// copied returns a copy that is never nil.
func copied(b []byte) []byte {
	return append(make([]byte, 0, len(b)), b...)
}
