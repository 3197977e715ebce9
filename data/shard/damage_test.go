package shard

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pretrain/internal/vfs"
)

func TestTokenizerMismatch(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	write(t, fsys, "/s", 10, nil)
	r := open(t, fsys, "/s")
	if err := r.CheckTokenizer(HashTokenizer([]byte("tok"))); err != nil {
		t.Error(err)
	}
	err := r.CheckTokenizer(HashTokenizer([]byte("another")))
	if !errors.Is(err, ErrTokenizer) || !strings.Contains(err.Error(), "/s was tokenised with") {
		t.Errorf("got %v", err)
	}
}

// patch overwrites bytes of a file; at < 0 cuts the file at len-(-at) instead.
func patch(t *testing.T, path string, at int, with []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		b = b[:len(b)+at]
	} else {
		copy(b[at:], with)
	}
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	u64 := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	for _, c := range []struct {
		name, ext string
		at        int
		with      []byte
		want      string
	}{
		{"magic", ".idx", 0, []byte("X"), "does not begin with MMIDIDX"},
		{"version", ".idx", 9, u64(2), "has version 2: want 1"},
		{"dtype", ".idx", 17, []byte{6}, "says Megatron dtype 6: want uint16 or int32"},
		{"sequences", ".idx", 18, u64(1 << 63), "do not fit its 9223372036854775808 sequences"},
		{"documents", ".idx", 26, u64(0), "0 document indices"},
		{"last length", ".idx", 42, []byte{255, 255, 255, 255}, "the last sequence has -1 tokens"},
		{"pointer", ".idx", 54, u64(3), "document 1 begins at byte 3 of 16"},
		{"pointer order", ".idx", 54, u64(1 << 60), "document 1 begins at byte 1152921504606846976 of 16"},
		{"document index", ".idx", 78, u64(9), "document 1 begins with sequence 9 of 3"},
		{"short idx", ".idx", -1, nil, "truncated?"},
		{"short bin", ".bin", -1, nil, "s.bin has 15 bytes, its index wants 16"},
		{"token", ".bin", 0, []byte{255, 255}, "token id 65535 between tokens 0 and 4: the vocabulary has 60000"},
		{"manifest", ".json", 0, []byte("X"), "s.json: invalid character"},
		{"short docs", ".docs", -1, nil, "s.docs has 163 bytes: want 164"},
		{"short mask", ".mask", -1, nil, "s.mask has 8 bytes: want 9"},
		{"version of ours", ".json", 15, []byte("1"), "s.json has version 1, this program reads 2: prepare the data again"},
		{"names", ".docs", 8, u64(1 << 40), "s.docs points beyond"},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := filepath.Join(t.TempDir(), "s")
			records := slices.Clone(golden)
			records[1].tokens = []uint32{5, 0}
			for i, r := range records {
				records[i].mask = make([]bool, len(r.tokens))
			}
			write(t, vfs.OS, prefix, 60000, records)
			patch(t, prefix+c.ext, c.at, c.with)
			r, err := Open(vfs.OS, prefix)
			if err == nil {
				defer r.Close()
				if err := r.Verify(t.Context()); !errors.Is(err, ErrCorrupt) {
					t.Errorf("Verify: %v", err)
				}
				_, err = readAll(r)
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

// A shard that is removed or truncated under a reader gives data or an error, never a fault.
func TestFilesChangeWhileOpen(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "s")
	long := record{doc: Doc{ID: "long"}, tokens: make([]uint32, 100_000)}
	for i := range long.tokens {
		long.tokens[i] = uint32(i % 60000)
	}
	write(t, vfs.OS, prefix, 60000, []record{long})
	r := open(t, vfs.OS, prefix)
	// Cut within a page: a memory map would read zeros there.
	if err := os.Truncate(prefix+".bin", 5000); err != nil {
		t.Fatal(err)
	}
	dst := make([]uint32, 2000)
	for _, at := range []int64{1000, 2400, 90_000} {
		err := r.Read(dst, at)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), prefix+".bin was truncated while in use: it ends at byte 5000") && at < 2500 {
			t.Errorf("at %d: %v", at, err)
		}
	}
	if err := r.Read(dst, 0); err != nil {
		t.Errorf("before the cut: %v", err)
	}
	for _, ext := range []string{".bin", ".idx"} {
		if err := os.Remove(prefix + ext); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Read(dst, 0); err != nil || dst[1999] != 1999 {
		t.Errorf("a removed file must stay readable while open: %v", err)
	}
	if _, n, err := r.Span(0); err != nil || n != 100_000 {
		t.Errorf("a removed index must stay readable while open: %d %v", n, err)
	}
}

func TestMissing(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "none")
	if _, err := Open(vfs.OS, prefix); !errors.Is(err, ErrNotCommitted) || !strings.Contains(err.Error(), prefix+".idx") {
		t.Errorf("got %v", err)
	}
	r := open(t, vfs.OS, filepath.Join("testdata", "uint16"))
	for _, err := range []error{
		r.Read(make([]uint32, 2), 7), r.Read(make([]uint32, 1), -1), r.Starts(make([]int64, 2), 3), r.Starts(make([]int64, 1), -1),
		second(r.Find(8)), second(r.Find(-1)), second(r.Doc(0)),
	} {
		if err == nil || !strings.Contains(err.Error(), "testdata") {
			t.Errorf("out of range: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// 100 GB open in well under a second, because nothing is read but the ends of the index.
func TestOpenIsConstantTime(t *testing.T) {
	const size, sequences = 100_000_000_000, 50_000_000
	prefix := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(prefix+".bin", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(prefix+".bin", size); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	idx, err := os.Create(prefix + ".idx")
	if err != nil {
		t.Fatal(err)
	}
	defer idx.Close()
	head := binary.LittleEndian.AppendUint64([]byte(magic), 1)
	head = append(head, byte(Uint16))
	head = binary.LittleEndian.AppendUint64(head, sequences)
	head = binary.LittleEndian.AppendUint64(head, sequences+1)
	idx.WriteAt(head, 0)
	idx.WriteAt([]byte{100, 0, 0, 0}, int64(headerSize)+4*(sequences-1))
	idx.WriteAt(binary.LittleEndian.AppendUint64(nil, size-200), int64(headerSize)+12*sequences-8)
	idx.WriteAt(binary.LittleEndian.AppendUint64(nil, sequences), int64(headerSize)+12*sequences+8*sequences)
	begin := time.Now()
	r := open(t, vfs.OS, prefix)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("opening took %v", took)
	}
	if err := r.Read(make([]uint32, 2048), size/2-2048); err != nil || r.Tokens() != size/2 || r.Documents() != sequences {
		t.Errorf("%d tokens, %d documents, %v", r.Tokens(), r.Documents(), err)
	}
	t.Logf("opened in %v", time.Since(begin))
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"uint16", "int32", "sentences"} {
		idx, _ := os.ReadFile("testdata/" + name + ".idx")
		bin, _ := os.ReadFile("testdata/" + name + ".bin")
		f.Add(idx, bin)
		f.Add(idx[:headerSize], []byte{})
	}
	f.Fuzz(func(t *testing.T, idx, bin []byte) {
		fsys := vfs.NewCrashableMem()
		put(t, fsys, "/s.idx", idx)
		put(t, fsys, "/s.bin", bin)
		r, err := Open(fsys, "/s")
		if err != nil {
			return
		}
		defer r.Close()
		all, err := readAll(r)
		verified := r.Verify(t.Context())
		if verified == nil && err != nil {
			t.Fatalf("verified, but reading fails: %v", err)
		}
		tokens := 0
		for _, rec := range all {
			tokens += len(rec.tokens)
		}
		if tokens > len(bin)/int(r.DType().Size()) {
			t.Fatalf("%d tokens out of %d bytes", tokens, len(bin))
		}
	})
}

func FuzzDocs(f *testing.F) {
	fsys := vfs.NewCrashableMem()
	write(f, fsys, "/s", 1<<16, golden)
	files := map[string][]byte{}
	for _, ext := range []string{".idx", ".bin", ".json", ".docs", ".ids"} {
		files[ext], _ = vfs.ReadFile(fsys, "/s"+ext)
	}
	f.Add(files[".docs"], files[".ids"], files[".json"])
	f.Fuzz(func(t *testing.T, docs, ids, manifest []byte) {
		fsys := vfs.NewCrashableMem()
		for ext, b := range map[string][]byte{".idx": files[".idx"], ".bin": files[".bin"], ".docs": docs, ".ids": ids, ".json": manifest} {
			put(t, fsys, "/s"+ext, b)
		}
		r, err := Open(fsys, "/s")
		if err != nil {
			return
		}
		defer r.Close()
		for i := range r.Documents() {
			if d, err := r.Doc(i); err == nil && len(d.ID)+len(d.Path) > 2*len(ids) {
				t.Fatalf("names of %d bytes out of %d", len(d.ID)+len(d.Path), len(ids))
			}
		}
	})
}

// A mask is read within its file, whatever its file and the manifest hold.
func FuzzMask(f *testing.F) {
	fsys := vfs.NewCrashableMem()
	records := slices.Clone(golden)
	for i, r := range records {
		records[i].mask = make([]bool, len(r.tokens))
	}
	write(f, fsys, "/s", 1<<16, records)
	files := map[string][]byte{}
	for _, ext := range []string{".idx", ".bin", ".docs", ".ids", ".json", ".mask"} {
		files[ext], _ = vfs.ReadFile(fsys, "/s"+ext)
	}
	f.Add(files[".mask"], files[".json"], int64(1), 3)
	f.Add(files[".mask"][:9], files[".json"], int64(7), 1)
	f.Fuzz(func(t *testing.T, mask, manifest []byte, start int64, n int) {
		fsys := vfs.NewCrashableMem()
		for ext, b := range files {
			put(t, fsys, "/s"+ext, b)
		}
		put(t, fsys, "/s.mask", mask)
		put(t, fsys, "/s.json", manifest)
		r, err := Open(fsys, "/s")
		if err != nil {
			return
		}
		defer r.Close()
		dst := make([]bool, max(0, min(n, 1000)))
		if err := r.ReadMask(dst, start); err == nil && (!r.HasMask() || start < 0 || start+int64(len(dst)) > r.Tokens()) {
			t.Fatalf("%d bits from %d on, of %d tokens, mask %v", len(dst), start, r.Tokens(), r.HasMask())
		}
	})
}

func put(t *testing.T, fsys vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fsys.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func BenchmarkRead(b *testing.B) {
	prefix := filepath.Join(b.TempDir(), "s")
	write(b, vfs.OS, prefix, 60000, []record{{tokens: make([]uint32, 64<<20)}})
	r := open(b, vfs.OS, prefix)
	dst := make([]uint32, 2048)
	b.SetBytes(4096)
	at := uint64(1)
	for b.Loop() {
		at = at*6364136223846793005 + 1442695040888963407
		if err := r.Read(dst, int64(at>>38)%(64<<20-2048)); err != nil {
			b.Fatal(err)
		}
	}
}
