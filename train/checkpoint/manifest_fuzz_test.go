package checkpoint

import (
	"bytes"
	"testing"
	"time"
)

// Whatever bytes a manifest has, reading it does not fail in another way than a Problem, and what is
// accepted can be written again to the same effect.
func FuzzManifest(f *testing.F) {
	m := manifest{
		Format: manifestFormat, FormatVersion: FormatVersion,
		Meta:    Meta{Step: 3, Tokens: 4, Config: "a: 1\n", CreatedAt: time.Unix(1, 2).UTC()},
		Files:   []fileEntry{{"a.safetensors", 100, "00"}},
		Tensors: []tensorEntry{{"w", "F32", []int{2, 3}, "a.safetensors", 72, 24, "11"}},
	}
	for range 2 {
		raw, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		m.Files[0].Name = "../a.safetensors"
		m.Tensors[0].File = "../a.safetensors"
	}
	f.Add([]byte(`{"format_version": 2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// The fuzzer cannot find a hash, so it is given one: each input is tried as it is and sealed.
		sealed := append(append(bytes.Clone(raw), selfHash+hash128(raw)...), sealEnd...)
		for _, data := range [][]byte{raw, sealed} {
			m, p := decodeManifest(data)
			if p != nil {
				if p.Kind == "" || p.Error() == "" {
					t.Fatalf("a problem without a name: %+v", p)
				}
				continue
			}
			for _, file := range m.Files {
				if bytes.ContainsAny([]byte(file.Name), "/") || file.Name == ".." {
					t.Fatalf("accepted the file name %q", file.Name)
				}
			}
			again, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, p := decodeManifest(again); p != nil {
				t.Fatalf("accepted once, then not: %v", p)
			}
		}
	})
}
