package storetest

import (
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// brokenEnv names the broken store that a child process exercises.
const brokenEnv = "BELAY_BROKEN_STORE"

// Each broken store breaks one rule of the contract, and the test that stands
// for the rule must fail. It fails in a child process, since a test cannot fail
// without its parent.
func TestBrokenStoresAreCaught(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range brokenStores {
		t.Run(broken.name, func(t *testing.T) {
			t.Parallel()
			test := strings.ReplaceAll(broken.caughtBy, " ", "_")
			cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestBrokenStore$/^"+test+"$", "-test.timeout=30s")
			cmd.Env = append(os.Environ(), brokenEnv+"="+broken.name)
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed {
				t.Fatalf("got %v from the tests of a store that %s, want them to fail:\n%s", err, broken.name, out)
			}
			if want := "--- FAIL: TestBrokenStore/" + test + " "; !strings.Contains(string(out), want) {
				t.Errorf("a store that %s: got no %q in\n%s", broken.name, want, out)
			}
		})
	}
}

// TestBrokenStore is the child.
func TestBrokenStore(t *testing.T) {
	name := os.Getenv(brokenEnv)
	i := slices.IndexFunc(brokenStores, func(b brokenStore) bool { return b.name == name })
	if i < 0 {
		return // it is the child of TestBrokenStoresAreCaught alone
	}
	patience = 500 * time.Millisecond
	Exercise(t, func(*testing.T) store.Store { return brokenStores[i].wrap(mem.New()) })
}

type brokenStore struct {
	name     string // it completes "a store that …"
	caughtBy string // a test of Exercise
	wrap     func(store.Store) store.Store
}

// change is a store with some methods replaced.
type change struct {
	store.Store
	append  func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error)
	delete  func(ctx context.Context, key string, after store.Revision) error
	head    func(ctx context.Context, key string) (store.Record, error)
	heads   func(ctx context.Context, prefix string) iter.Seq2[store.Record, error]
	history func(ctx context.Context, key string) iter.Seq2[store.Record, error]
	since   func(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error]
	watch   func(ctx context.Context, prefix string) iter.Seq[store.Record]
}

func (c change) Append(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
	if c.append != nil {
		return c.append(ctx, key, entry, state, after)
	}
	return c.Store.Append(ctx, key, entry, state, after)
}

func (c change) Delete(ctx context.Context, key string, after store.Revision) error {
	if c.delete != nil {
		return c.delete(ctx, key, after)
	}
	return c.Store.Delete(ctx, key, after)
}

func (c change) Head(ctx context.Context, key string) (store.Record, error) {
	if c.head != nil {
		return c.head(ctx, key)
	}
	return c.Store.Head(ctx, key)
}

func (c change) Heads(ctx context.Context, prefix string) iter.Seq2[store.Record, error] {
	if c.heads != nil {
		return c.heads(ctx, prefix)
	}
	return c.Store.Heads(ctx, prefix)
}

func (c change) History(ctx context.Context, key string) iter.Seq2[store.Record, error] {
	if c.history != nil {
		return c.history(ctx, key)
	}
	return c.Store.History(ctx, key)
}

func (c change) Since(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
	if c.since != nil {
		return c.since(ctx, prefix, after)
	}
	return c.Store.Since(ctx, prefix, after)
}

func (c change) Watch(ctx context.Context, prefix string) iter.Seq[store.Record] {
	if c.watch != nil {
		return c.watch(ctx, prefix)
	}
	return c.Store.Watch(ctx, prefix)
}

// edited is the iterator with its records changed as a whole.
func edited(records iter.Seq2[store.Record, error], edit func([]store.Record) []store.Record) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		var rs []store.Record
		var failure error
		for r, err := range records {
			if err != nil {
				failure = err
				break
			}
			rs = append(rs, r)
		}
		for _, r := range edit(rs) {
			if !yield(r, nil) {
				return
			}
		}
		if failure != nil {
			yield(store.Record{}, failure)
		}
	}
}

// lastRevision is the revision of the key's head, 0 if there is none.
func lastRevision(ctx context.Context, s store.Store, key string) store.Revision {
	r, err := s.Head(ctx, key)
	if err != nil {
		return 0
	}
	return r.Revision
}

var brokenStores = []brokenStore{
	{"appends whatever the head is", "compare and swap", func(s store.Store) store.Store {
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, _ store.Revision) (store.Revision, error) {
			return s.Append(ctx, key, entry, state, lastRevision(ctx, s, key))
		}}
	}},
	{"compares and then swaps", "race on one key", func(s store.Store) store.Store {
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
			if lastRevision(ctx, s, key) == after {
				time.Sleep(time.Millisecond)
				after = lastRevision(ctx, s, key)
			}
			return s.Append(ctx, key, entry, state, after)
		}}
	}},
	{"conflicts over other keys", "append and read back", func(s store.Store) store.Store {
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
			for r := range s.Since(ctx, "", after) {
				if r.Revision > after {
					return 0, store.ErrConflict
				}
			}
			return s.Append(ctx, key, entry, state, after)
		}}
	}},
	{"answers before it has written", "append and read back", func(s store.Store) store.Store {
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
			entry, state = slices.Clone(entry), slices.Clone(state)
			time.AfterFunc(10*time.Millisecond, func() { _, _ = s.Append(ctx, key, entry, state, after) })
			return after + 1, nil
		}}
	}},
	{"keeps the caller's slices", "slices", func(s store.Store) store.Store {
		var mu sync.Mutex
		kept := make(map[store.Revision][]byte)
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
			revision, err := s.Append(ctx, key, entry, state, after)
			mu.Lock()
			defer mu.Unlock()
			kept[revision] = entry
			return revision, err
		}, head: func(ctx context.Context, key string) (store.Record, error) {
			r, err := s.Head(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				r.Entry = kept[r.Revision]
			}
			return r, err
		}}
	}},
	{"hands out its own slices", "slices", func(s store.Store) store.Store {
		cache := make(map[string]store.Record)
		return change{Store: s, head: func(ctx context.Context, key string) (store.Record, error) {
			r, err := s.Head(ctx, key)
			if old, ok := cache[key]; ok && err == nil && old.Revision == r.Revision {
				return old, nil
			}
			cache[key] = r
			return r, err
		}}
	}},
	{"takes no state for an empty one", "values", func(s store.Store) store.Store {
		return change{Store: s, head: func(ctx context.Context, key string) (store.Record, error) {
			r, err := s.Head(ctx, key)
			if len(r.State) == 0 {
				r.State = nil
			}
			return r, err
		}}
	}},
	{"takes any key", "keys", func(s store.Store) store.Store {
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
			if store.CheckKey(key) != nil {
				key = "?"
			}
			return s.Append(ctx, key, entry, state, after)
		}}
	}},
	{"takes no large value", "values", func(s store.Store) store.Store {
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
			if len(entry)+len(state) > 64<<10 {
				return 0, store.ErrTooLarge
			}
			return s.Append(ctx, key, entry, state, after)
		}}
	}},
	{"writes for a caller who has gone", "context", func(s store.Store) store.Store {
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
			return s.Append(context.WithoutCancel(ctx), key, entry, state, after)
		}}
	}},
	{"has history backwards", "history", func(s store.Store) store.Store {
		return change{Store: s, history: func(ctx context.Context, key string) iter.Seq2[store.Record, error] {
			return edited(s.History(ctx, key), func(rs []store.Record) []store.Record { slices.Reverse(rs); return rs })
		}}
	}},
	{"takes a prefix for a key", "history", func(s store.Store) store.Store {
		return change{Store: s, history: func(ctx context.Context, key string) iter.Seq2[store.Record, error] {
			return s.Since(ctx, key, 0)
		}}
	}},
	{"reads an iterator once", "stop early", func(s store.Store) store.Store {
		return change{Store: s, since: func(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				for r, err := range s.Since(ctx, prefix, after) {
					after = max(after, r.Revision)
					if !yield(r, err) {
						return
					}
				}
			}
		}}
	}},
	{"shows old states", "since", func(s store.Store) store.Store {
		return change{Store: s, since: func(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
			return edited(s.Since(ctx, prefix, after), func(rs []store.Record) []store.Record {
				for i := range rs {
					rs[i].State = append([]byte{}, rs[i].State...)
				}
				return rs
			})
		}}
	}},
	{"has heads in any order", "heads", func(s store.Store) store.Store {
		return change{Store: s, heads: func(ctx context.Context, prefix string) iter.Seq2[store.Record, error] {
			return edited(s.Heads(ctx, prefix), func(rs []store.Record) []store.Record {
				slices.SortFunc(rs, func(a, b store.Record) int { return int(a.Revision) - int(b.Revision) })
				return rs
			})
		}}
	}},
	{"takes prefixes for folders", "heads", func(s store.Store) store.Store {
		return change{Store: s, heads: func(ctx context.Context, prefix string) iter.Seq2[store.Record, error] {
			return edited(s.Heads(ctx, prefix), func(rs []store.Record) []store.Record {
				return slices.DeleteFunc(rs, func(r store.Record) bool {
					return !strings.HasPrefix(r.Key+"/", strings.TrimSuffix(prefix, "/")+"/")
				})
			})
		}}
	}},
	{"has records by key", "since", func(s store.Store) store.Store {
		return change{Store: s, since: func(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
			return edited(s.Since(ctx, prefix, after), func(rs []store.Record) []store.Record {
				slices.SortStableFunc(rs, func(a, b store.Record) int { return strings.Compare(a.Key, b.Key) })
				return rs
			})
		}}
	}},
	{"repeats the record at the cursor", "since", func(s store.Store) store.Store {
		return change{Store: s, since: func(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
			return s.Since(ctx, prefix, max(after, 1)-1)
		}}
	}},
	{"shows a record behind the cursor", "race on many keys", func(s store.Store) store.Store {
		return change{Store: s, since: func(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
			return edited(s.Since(ctx, prefix, after), func(rs []store.Record) []store.Record {
				if n := len(rs); n > 2 && ctx.Done() != nil { // The one before the last comes late.
					rs = slices.Delete(rs, n-2, n-1)
				}
				return rs
			})
		}}
	}},
	{"deletes whatever the head is", "delete", func(s store.Store) store.Store {
		return change{Store: s, delete: func(ctx context.Context, key string, _ store.Revision) error {
			return s.Delete(ctx, key, lastRevision(ctx, s, key))
		}}
	}},
	{"deletes what is not there", "delete", func(s store.Store) store.Store {
		return change{Store: s, delete: func(ctx context.Context, key string, after store.Revision) error {
			if err := s.Delete(ctx, key, after); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		}}
	}},
	{"gives revisions again", "revisions after delete", func(s store.Store) store.Store {
		var base store.Revision // taken off the revisions once everything is deleted
		return change{Store: s, append: func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
			revision, err := s.Append(ctx, key, entry, state, after)
			return revision - base, err
		}, delete: func(ctx context.Context, key string, after store.Revision) error {
			err := s.Delete(ctx, key, after+base)
			if err == nil {
				base = after + base
			}
			return err
		}}
	}},
	{"mixes an old history with a new one", "deleted while reading", func(s store.Store) store.Store {
		return change{Store: s, history: func(ctx context.Context, key string) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				for after, more := store.Revision(0), true; more; {
					more = false
					for r, err := range s.Since(ctx, key, after) {
						if !yield(r, err) {
							return
						}
						after, more = r.Revision, true
						break
					}
				}
			}
		}}
	}},
	{"watches every key", "watch", func(s store.Store) store.Store {
		return change{Store: s, watch: func(ctx context.Context, _ string) iter.Seq[store.Record] { return s.Watch(ctx, "") }}
	}},
	{"watches nothing", "watch", func(s store.Store) store.Store {
		return change{Store: s, watch: func(ctx context.Context, _ string) iter.Seq[store.Record] {
			return func(func(store.Record) bool) { <-ctx.Done() }
		}}
	}},
	{"watches on when it is closed", "closed", func(s store.Store) store.Store {
		return change{Store: s, watch: func(ctx context.Context, prefix string) iter.Seq[store.Record] {
			return func(yield func(store.Record) bool) {
				for r := range s.Watch(ctx, prefix) {
					if !yield(r) {
						return
					}
				}
				<-ctx.Done()
			}
		}}
	}},
	{"forgets that it is closed", "closed", func(s store.Store) store.Store {
		return change{Store: s, head: func(ctx context.Context, key string) (store.Record, error) {
			r, err := s.Head(ctx, key)
			if errors.Is(err, store.ErrClosed) {
				return store.Record{Key: key}, nil
			}
			return r, err
		}}
	}},
}
