package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/store"
)

// content is a store's file and what a reader of it sees, now and one commit
// earlier.
type content struct {
	path, now, before string
}

// filled writes a store with several levels of pages, overflow pages and free
// pages.
func filled(t testing.TB) content {
	t.Helper()
	path := newPath(t)
	s, err := Open(path, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	heads := make(map[string]store.Revision)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		var group []*write
		for k := range 60 {
			key := fmt.Sprintf("rollout/%03d", k)
			state := bytes.Repeat([]byte{byte(round)}, 20+random.IntN(900))
			if k == 7 {
				state = bytes.Repeat([]byte("large "), 3000)
			}
			group = append(group, newAppend(key, fmt.Appendf(nil, "entry %d of %s", round, key), state, heads[key]))
		}
		s.commitGroup(group)
		for _, w := range group {
			r := <-w.done
			if r.err != nil {
				t.Fatal(r.err)
			}
			heads[string(w.key)] = r.revision
		}
	}
	c := content{path: path}
	for k := range 20 {
		c.before = dumped(t, s)
		key := fmt.Sprintf("rollout/%03d", 3*k)
		if err := s.Delete(t.Context(), key, heads[key]); err != nil {
			t.Fatal(err)
		}
	}
	c.now = dumped(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

// dumped is everything a reader can see of the store.
func dumped(t testing.TB, s *Store) string {
	t.Helper()
	all, err := dump(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// dump is everything a reader can see of a store, or why it cannot.
func dump(ctx context.Context, s store.Store) (string, error) {
	var b strings.Builder
	for r, err := range s.Since(ctx, "", 0) {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%d %s %q %q\n", r.Revision, r.Key, r.Entry, r.State)
	}
	for r, err := range s.Heads(ctx, "") {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %d %q\n", r.Key, r.Revision, r.Entry)
	}
	return b.String(), nil
}

// refused writes the bytes to a file and expects that it is refused with the
// error and left as it is.
func refused(t *testing.T, data []byte, want error) error {
	t.Helper()
	path := newPath(t)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, testOptions())
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, want) {
		t.Fatalf("Open: got error %v, want %v", err, want)
	}
	left, readErr := os.ReadFile(path)
	if readErr != nil || !bytes.Equal(left, data) {
		t.Errorf("the file after it was refused: got %d other bytes, %v; want it untouched", len(left), readErr)
	}
	return err
}

// A page in use that holds anything else than what was written, a file cut off
// or never finished: refused, untouched, and the error has the commands.
func TestDamageIsRefused(t *testing.T) {
	sound, metas := soundFile(t, filled(t).path)
	m := metas[newest(metas)]
	c := &checker{r: bytes.NewReader(sound), meta: m, use: make([]use, m.pages)}
	if err := errors.Join(c.freelist(), c.tree(m.root, nil, bounds{}, 0)); err != nil {
		t.Fatal(err)
	}
	size := int(m.pageSize)
	refusals := 0
	for id, u := range c.use {
		if u == free {
			continue
		}
		for name, spoil := range map[string]func(page []byte){
			"zeroed":  func(page []byte) { clear(page) },
			"flipped": func(page []byte) { flip(page) },
			"torn":    func(page []byte) { clear(page[:512]) },
			"swapped": func(page []byte) { copy(page, sound[3*size:4*size]) },
		} {
			data := bytes.Clone(sound)
			spoil(data[id*size : (id+1)*size])
			if bytes.Equal(data, sound) {
				continue
			}
			t.Run(fmt.Sprintf("page %d %s", id, name), func(t *testing.T) {
				if err := refused(t, data, ErrCorrupt); !strings.Contains(err.Error(), "page") && !strings.Contains(err.Error(), "record") {
					t.Errorf("got the error %v, want it to name the page or the record", err)
				}
				refusals++
			})
		}
	}
	if refusals < 100 {
		t.Errorf("got %d damaged files, want at least 100", refusals)
	}
	for _, n := range []int{1, 100, 4095, 4096, 8192, 12288, int(m.pages)*size - 1, int(m.pages)*size - size} {
		t.Run(fmt.Sprintf("truncated to %d", n), func(t *testing.T) { refused(t, sound[:n], ErrCorrupt) })
	}
	t.Run("empty", func(t *testing.T) { refused(t, nil, ErrCorrupt) })
}

// soundFile reads a file that is sound.
func soundFile(t *testing.T, path string) ([]byte, [2]meta) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	metas, err := readMetas(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return data, metas
}

// newest is the index of the last commit.
func newest(metas [2]meta) int {
	if metas[1].txid > metas[0].txid {
		return 1
	}
	return 0
}

func flip(page []byte) {
	for i := range page {
		page[i] ^= 0xFF
	}
}

// A single bit: either it is noticed, or it was in a place that holds nothing
// and everything reads as before. Nothing else, and above all no crash.
func TestOneBit(t *testing.T) {
	filled := filled(t)
	sound, _ := soundFile(t, filled.path)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	noticed := 0
	for range 300 {
		bit := random.IntN(8 * len(sound))
		data := bytes.Clone(sound)
		data[bit/8] ^= 1 << (bit % 8)
		bad := newPath(t)
		if err := os.WriteFile(bad, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(bad, testOptions())
		switch {
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrForeign):
			noticed++
			continue
		case err != nil:
			t.Errorf("seed %d, bit %d: got error %v, want %v or none", seed, bit, err, ErrCorrupt)
			continue
		}
		if got := dumped(t, s); got != filled.now {
			t.Errorf("seed %d, bit %d: got another content and no error", seed, bit)
		}
		if err := s.Close(); err != nil {
			t.Errorf("seed %d, bit %d: Close: %v", seed, bit, err)
		}
	}
	if noticed == 0 {
		t.Error("got no flipped bit noticed of 300, want some")
	}
}

// The error of a damaged file is what an operator has at three in the morning:
// what is wrong, that nothing was changed, and the commands to copy.
func TestDamageText(t *testing.T) {
	data, _ := soundFile(t, filled(t).path)
	flip(data[4096:8192])
	bad := strings.TrimSuffix(newPath(t), "belay.db") + "it's here.db"
	if err := os.WriteFile(bad, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(bad, testOptions())
	quoted := "'" + strings.ReplaceAll(bad, "'", `'\''`) + "'"
	for _, want := range []string{
		"open store " + bad + ": bolt: damaged file: damaged meta page 1: it has the flags", "was not changed",
		"cp BACKUP " + quoted, "go run go.etcd.io/bbolt/cmd/bbolt@v1.5.0 compact -o ",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got the error\n%v\nwant %q in it", err, want)
		}
	}
}

// The first repair that the error of each damage gives does what it says, with
// the real bbolt.
func TestRecoveryCommands(t *testing.T) {
	tool := realtest.Program(t, "bbolt") // go install go.etcd.io/bbolt/cmd/bbolt@v1.5.0
	filled := filled(t)
	sound, metas := soundFile(t, filled.path)
	last := newest(metas)
	for _, test := range []struct {
		story string
		page  uint64
		want  string
	}{
		{"the last meta page is torn", uint64(last), filled.before},
		{"the meta page before is torn", uint64(1 - last), filled.now},
		{"the list of free pages is damaged", metas[last].freelist, filled.now},
		{"a page of the last commit is torn", metas[last].root, filled.before},
	} {
		t.Run(test.story, func(t *testing.T) {
			data := bytes.Clone(sound)
			flip(data[test.page*4096 : test.page*4096+4096])
			bad := newPath(t)
			if err := os.WriteFile(bad, data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(bad, testOptions())
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("Open: got error %v, want %v", err, ErrCorrupt)
			}
			var repair string // the first command that the error gives but the one for a backup
			for line := range strings.Lines(err.Error()) {
				if strings.HasPrefix(line, "  "+boltCommand) && repair == "" {
					repair = strings.ReplaceAll(line, boltCommand, tool)
				}
			}
			if out, err := exec.CommandContext(t.Context(), "sh", "-c", repair).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", repair, err, out)
			}
			if got := dumped(t, opened(t, bad, testOptions())); got != test.want {
				t.Errorf("after %s got %d bytes of content, want %d", repair, len(got), len(test.want))
			}
		})
	}
}

// What is no store of this version is left alone too.
func TestForeignIsRefused(t *testing.T) {
	bolted := func(fill func(tx *bbolt.Tx) error) []byte {
		path := newPath(t)
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(fill), db.Close()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	version := func(v string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket(bucketBelay)
			if err != nil {
				return err
			}
			return b.Put(keyFormat, []byte(v))
		}
	}
	refused(t, bolted(func(*bbolt.Tx) error { return nil }), ErrForeign)
	refused(t, bolted(version("2")), ErrForeign)
	refused(t, bolted(version(formatVersion)), ErrForeign) // It has no log.
	refused(t, bolted(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("someone"))
		if err != nil {
			return err
		}
		_, err = b.CreateBucket([]byte("else"))
		return err
	}), ErrForeign)
	if _, err := Open(t.TempDir(), testOptions()); err == nil {
		t.Error("Open of a directory: got no error, want one")
	}
}

// A page that cannot be read while the store is open is a fault, not a crash:
// the store is broken, and every call says so.
func TestFaultWhileOpen(t *testing.T) {
	path := filled(t).path
	s := opened(t, path, testOptions())
	head, err := s.Head(t.Context(), "rollout/001")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	err = lastError(s.Since(t.Context(), "", 0))
	if !errors.Is(err, store.ErrBroken) {
		t.Errorf("Since: got error %v, want %v", err, store.ErrBroken)
	}
	checkBroken(t, s, head.Revision)
}
