package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/store"
)

// smallDisk mounts a file system of the size, or skips the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		realtest.Missing(t, "no real small disk: mount tmpfs: %v (it takes root)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// The disk fills up. First the reserve goes, so that what is under way can
// still be written down; then appends are refused and nothing else: what was
// written can be read and deleted. When there is room again everything goes on
// and the reserve comes back.
func TestDiskFull(t *testing.T) {
	dir := smallDisk(t, "5m")
	path := filepath.Join(dir, "belay.db")
	ballast := filepath.Join(dir, "ballast")
	// Twice what the reserve asks for before it comes back: the file may have grown
	// meanwhile.
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s := opened(t, path, Options{Reserve: 512 << 10, Logger: textLogger(&log)})
	if space, err := s.Space(); err != nil || !space.Reserved || !space.FreeKnown || space.Free > 4<<20 {
		t.Errorf("Space of a new store: got %+v, %v; want a reserve and less than 4 MiB free", space, err)
	}
	kept := make(map[string]store.Revision)
	atRelease := 0
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		key := fmt.Sprint("k/", i)
		var r store.Revision
		if r, err = s.Append(t.Context(), key, []byte("entry of "+key), make([]byte, 10_000), 0); err == nil {
			kept[key] = r
		}
		if atRelease == 0 && s.reserve.left.Load() < s.reserve.size {
			atRelease = len(kept)
		}
	}
	if !errors.Is(err, store.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Append to a full disk: got error %v, want %v and %v", err, store.ErrFull, syscall.ENOSPC)
	}
	if atRelease < 20 || len(kept) < atRelease+10 {
		t.Errorf("got %d appends before the reserve went and %d in all, want at least 20 before and 10 after", atRelease, len(kept))
	}
	if space, err := s.Space(); err != nil || space.Reserved {
		t.Errorf("Space of a full store: got %+v, %v; want no reserve", space, err)
	}
	for key, r := range kept {
		if got, err := s.Head(t.Context(), key); err != nil || got.Revision != r || string(got.Entry) != "entry of "+key {
			t.Fatalf("Head(%s) with the disk full: got %d %q, %v; want %d", key, got.Revision, got.Entry, err, r)
		}
	}
	for range 3 {
		if _, err := s.Append(t.Context(), "k/0", nil, make([]byte, 200_000), kept["k/0"]); !errors.Is(err, store.ErrFull) {
			t.Errorf("Append again: got error %v, want %v", err, store.ErrFull)
		}
	}
	for i := range 20 { // Retention still works, and makes room.
		key := fmt.Sprint("k/", i)
		if err := s.Delete(t.Context(), key, kept[key]); err != nil {
			t.Fatalf("Delete with the disk full: %v", err)
		}
		delete(kept, key)
	}
	if _, err := s.Append(t.Context(), "after delete", nil, make([]byte, 10_000), 0); err != nil {
		t.Errorf("Append after deletes: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), "after room", nil, make([]byte, 10_000), 0); err != nil {
		t.Errorf("Append with room again: %v", err)
	}
	// The answer comes before the reserve; the next write comes after it.
	if _, err := s.Append(t.Context(), "at last", nil, nil, 0); err != nil {
		t.Errorf("Append with room again: %v", err)
	}
	if space, err := s.Space(); err != nil || !space.Reserved {
		t.Errorf("Space with room again: got %+v, %v; want the reserve back", space, err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for _, want := range []string{"store reserve taken", "store reserve given up"} { // The deletes may do without the rest of it.
		if !strings.Contains(log.String(), want) {
			t.Errorf("got the log\n%swant %q in it", &log, want)
		}
	}
	if n := len(dumped(t, opened(t, path, testOptions()))); n == 0 {
		t.Error("the store opened again: got nothing, want the records")
	}
}

// A daemon must start on a full disk, to roll back: it has no reserve then.
func TestOpenOnFullDisk(t *testing.T) {
	dir := smallDisk(t, "2m")
	path := filepath.Join(dir, "belay.db")
	if err := opened(t, path, testOptions()).Close(); err != nil {
		t.Fatal(err)
	}
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = ballast.Write(make([]byte, 4096))
	}
	if err := ballast.Close(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s := opened(t, path, Options{Logger: textLogger(&log)})
	if space, err := s.Space(); err != nil || space.Reserved {
		t.Errorf("Space: got %+v, %v; want no reserve", space, err)
	}
	if !strings.Contains(log.String(), "store reserve missing") {
		t.Errorf("got the log %q, want it to say that there is no reserve", &log)
	}
	if err := lastError(s.Since(t.Context(), "", 0)); err != nil {
		t.Errorf("Since: %v", err)
	}
}

// A quota lets nobody write the reserve although the disk has room. It is tried now
// and then, not with every append.
func TestReserveUnderQuota(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belay.db")
	s := opened(t, path, Options{Reserve: 1 << 20})
	// The reserve is gone, and what has its name cannot be written.
	s.reserve.left.Store(0)
	if err := errors.Join(os.Remove(path+".reserve"), os.Symlink("/dev/full", path+".reserve")); err != nil {
		t.Fatal(err)
	}
	reserved := func() bool {
		space, err := s.Space()
		if err != nil {
			t.Error(err)
		}
		return space.Reserved
	}
	// The try in vain took the link away: another one would write the reserve.
	for i := range 30 {
		if _, err := s.Append(t.Context(), fmt.Sprint("k/", i), nil, []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if reserved() {
		t.Error("30 appends later: got the reserve written again, want it left for a minute")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = opened(t, path, Options{Reserve: 1 << 20}); !reserved() {
		t.Error("a later try: got no reserve, want it")
	}
}

// Network file systems are refused by their kind, and nothing is written.
func TestNetworkIsRefused(t *testing.T) {
	for magic, name := range map[int64]string{0x6969: "nfs", 0x517B: "smb", 0xFE534D42: "smb2", 0xFF534D42: "cifs"} {
		err := refuseType("/mnt/share", magic)
		if !errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), "/mnt/share is on "+name+",") {
			t.Errorf("file system %#x: got error %v, want %v that names %s", magic, err, ErrNetwork, name)
		}
	}
	for _, magic := range []int64{0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794c7630} { // ext4, xfs, btrfs, tmpfs, overlay
		if err := refuseType("/var/lib/belay", magic); err != nil {
			t.Errorf("file system %#x: got error %v, want none", magic, err)
		}
	}
	if err := refuseNetwork(t.TempDir()); err != nil {
		t.Errorf("a temporary directory: got error %v, want none", err)
	}
}
