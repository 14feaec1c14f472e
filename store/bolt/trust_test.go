package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// trusting names a file that the test's own process reads by bbolt alone.
const trusting = "BELAY_TEST_BBOLT"

// What becomes of a file with one bit flipped at the head of a page, without the check at
// Open: bbolt checks it (Tx.Check), and this package its records. Some make that die, some
// never end, and some are believed. As long as that is so the check is needed.
func TestBboltTrusts(t *testing.T) {
	if path := os.Getenv(trusting); path != "" {
		fmt.Println(believed(path))
		return
	}
	sound, metas := soundFile(t, filled(t).path)
	m := metas[newest(metas)]
	c := &checker{r: bytes.NewReader(sound), meta: m, use: make([]use, m.pages)}
	if err := errors.Join(c.freelist(), c.tree(m.root, nil, bounds{}, 0)); err != nil {
		t.Fatal(err)
	}
	read := func(data []byte) (what, said string) {
		path := newPath(t)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestBboltTrusts$") // #nosec G204 -- the test's own program
		cmd.Env = append(os.Environ(), trusting+"="+path)
		out, err := cmd.Output()
		switch {
		case ctx.Err() != nil:
			return "never ended", ""
		case err != nil:
			return "died", ""
		}
		return "", string(out)
	}
	_, want := read(sound)
	size, ends := int(m.pageSize), map[string]int{}
	for id, u := range c.use {
		if u == free || id < 2 {
			continue
		}
		for bit := range 4 {
			spoil := func(page []byte) { page[8+(id*7+bit*5)%56] ^= 1 << bit }
			data := bytes.Clone(sound)
			spoil(data[id*size : (id+1)*size])
			what, said := read(data)
			switch {
			case what != "":
			case strings.Contains(said, "damaged: "):
				what = "noticed"
			case said != want:
				what = "believed"
			default:
				what = "without effect"
			}
			ends[what]++
		}
	}
	t.Logf("damaged pages: %v", ends)
	if ends["died"]+ends["never ended"] == 0 {
		t.Errorf("got %v: bbolt bears every damage, and the check at Open can go", ends)
	}
}

// believed is what bbolt shows of a file, after its own check and that of the records; a
// fault is a panic.
func believed(path string) string {
	debug.SetPanicOnFault(true)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return "damaged: " + err.Error()
	}
	h := fnv.New64a()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		if err := checkHeads(tx); err != nil {
			return err
		}
		l, err := newLayout(tx)
		if err != nil {
			return err
		}
		for key, value := range from(l.log, nil) {
			if _, err := decodeLog(key, value); err != nil {
				return err
			}
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				_, err := fmt.Fprintf(h, "%s %x %x\n", name, k, v)
				return err
			})
		})
	})
	if err != nil {
		return "damaged: " + err.Error()
	}
	return fmt.Sprintf("%x", h.Sum64())
}
