package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/belayd/belay/store"
)

// Whatever is written and deleted, the check agrees with bbolt, which checks
// itself after every commit (StrictMode), that the file is sound, and counts
// what is in it. A check that is wrong about a sound file would keep a daemon
// from starting.
func TestCheckAcceptsWhatIsSound(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	s := opened(t, newPath(t), testOptions())
	type key struct {
		head store.Revision
		n    int
	}
	keys := make(map[string]key)
	for round := range 60 {
		group := make(map[string]*write)
		for range 1 + random.IntN(80) {
			name := fmt.Sprintf("%s/%d", []string{"rollout", "plan", "endpoint/azureml", "inbox/" + string(bytes.Repeat([]byte("x"), 300))}[random.IntN(4)], random.IntN(150))
			switch k := keys[name]; {
			case k.head != 0 && random.IntN(3+round%7) == 0:
				group[name] = newDelete(name, k.head)
			default:
				size := random.IntN(300)
				if random.IntN(20) == 0 {
					size = random.IntN(60_000)
				}
				group[name] = newAppend(name, make([]byte, size), make([]byte, 2*size), k.head)
			}
		}
		s.commitGroup(collectValues(group)) // The writer is idle.
		for name, w := range group {
			r := <-w.done
			if r.err != nil {
				t.Fatalf("round %d: %s: %v", round, name, r.err)
			}
			if w.delete {
				delete(keys, name)
			} else {
				keys[name] = key{r.revision, keys[name].n + 1}
			}
		}
		info, err := s.file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		sum, err := checkFile(s.file, info.Size())
		if err != nil {
			t.Fatalf("round %d: a sound file: got error %v, want none", round, err)
		}
		records := 0
		for _, k := range keys {
			records += k.n
		}
		if sum.heads != len(keys) || sum.log != records {
			t.Fatalf("round %d: got %d heads and %d records, want %d and %d", round, sum.heads, sum.log, len(keys), records)
		}
	}
}

func collectValues(group map[string]*write) []*write {
	var out []*write
	for _, w := range group {
		out = append(out, w)
	}
	return out
}

// Whatever bytes the file has, the check ends, without a fault, and what it
// accepts can be opened and read to the end.
func FuzzCheck(f *testing.F) {
	path := filepath.Join(f.TempDir(), "belay.db")
	s, err := Open(path, testOptions())
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if _, err := s.Append(f.Context(), fmt.Sprint("rollout/", i), []byte("entry"), bytes.Repeat([]byte("s"), 3000*i), 0); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	metas, err := readMetas(bytes.NewReader(sound))
	if err != nil {
		f.Fatal(err)
	}
	sound = sound[:metas[newest(metas)].pages*4096]
	f.Add(uint32(0), []byte{})
	f.Add(uint32(4096*2+10), []byte{0xFF, 0xFF})
	f.Add(uint32(4096*4+16), []byte{1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add(uint32(4096+16+40), []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		data := bytes.Clone(sound)
		copy(data[int(at)%len(data):], patch)
		if _, err := checkFile(bytes.NewReader(data), int64(len(data))); err != nil {
			return
		}
		path := newPath(t)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{ReadOnly: true})
		if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrForeign) {
			return // The heads are not those of the records.
		}
		if err != nil {
			t.Fatalf("Open of what the check accepts: %v", err)
		}
		if err := errors.Join(lastError(s.Since(t.Context(), "", 0)), lastError(s.Heads(t.Context(), "")), s.Close()); err != nil {
			t.Fatalf("reading what the check accepts: %v", err)
		}
	})
}

// A record comes back from its bytes, and from no others.
func FuzzRecord(f *testing.F) {
	f.Add(uint64(7), uint64(3), uint64(2), "", []byte("entry"))
	f.Add(uint64(7), uint64(0), uint64(7), "rollout/1", []byte{})
	f.Add(^uint64(0), uint64(1), uint64(1), "", []byte("x"))
	f.Fuzz(func(t *testing.T, revision, previous, first uint64, key string, entry []byte) {
		r := logRecord{revision: store.Revision(revision), previous: store.Revision(previous), first: store.Revision(first), entry: entry}
		if r.revision == 0 || r.first == 0 || r.first > r.revision {
			return
		}
		if r.first == r.revision {
			r.previous, r.key = 0, []byte(key)
		} else if r.previous < r.first || r.previous >= r.revision {
			return
		}
		k, v := r.encode()
		got, err := decodeLog(k, v)
		if err != nil || got.revision != r.revision || got.previous != r.previous || got.first != r.first || !bytes.Equal(got.key, r.key) || !bytes.Equal(got.entry, r.entry) {
			t.Fatalf("got %+v, %v; want %+v", got, err, r)
		}
		for i := range v {
			v[i] ^= 0x10
			if _, err := decodeLog(k, v); !errors.Is(err, errRecord) {
				t.Fatalf("byte %d of %d changed: got error %v, want %v", i, len(v), err, errRecord)
			}
			v[i] ^= 0x10
		}
		h := headRecord{revision: r.revision, first: r.first, state: entry}
		hv := h.encode([]byte(key))
		gotHead, err := decodeHead([]byte(key), hv)
		if err != nil || gotHead.revision != h.revision || gotHead.first != h.first || !bytes.Equal(gotHead.state, h.state) {
			t.Fatalf("got %+v, %v; want %+v", gotHead, err, h)
		}
		if _, err := decodeHead([]byte(key+"x"), hv); !errors.Is(err, errRecord) {
			t.Fatalf("the head of another key: got error %v, want %v", err, errRecord)
		}
	})
}
