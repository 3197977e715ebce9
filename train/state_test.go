package train

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/prng"
	"pretrain/model"
	"pretrain/train/mesh"
	"pretrain/train/optim"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// TestInit: gains are one, the rest is normal with its standard deviation, slots and counters are zero.
func TestInit(t *testing.T) {
	m := tiny()
	m.VocabSize, m.QKNorm = 1000, true
	host := initialised(t, m, prng.New(5))
	l := NewLayout(m, optim.Default())
	if len(host) != len(l.Specs) {
		t.Fatalf("%d tensors, want %d", len(host), len(l.Specs))
	}
	for i, h := range host {
		n := len(h.Data) / 4
		if i >= l.NumParams() {
			if slices.ContainsFunc(h.Data, func(b byte) bool { return b != 0 }) {
				t.Errorf("%s does not start at zero", h.Name)
			}
			continue
		}
		p := l.Groups[i].Param
		var sum, squares, fourth float64
		for j := range n {
			v := float(h, j)
			if p.Role == model.Gain {
				if v != 1 {
					t.Errorf("%s[%d] = %g, want 1", h.Name, j, v)
				}
				continue
			}
			v /= p.InitStd
			sum, squares, fourth = sum+v, squares+v*v, fourth+v*v*v*v
		}
		if p.Role == model.Gain {
			continue
		}
		// Five standard errors of the mean, the variance and the kurtosis of a normal sample.
		root := 5 / math.Sqrt(float64(n))
		if math.Abs(sum/float64(n)) > root || math.Abs(squares/float64(n)-1) > math.Sqrt2*root || math.Abs(fourth/float64(n)-3) > math.Sqrt(96)*root {
			t.Errorf("%s of %d elements: mean %.3f, variance %.3f, fourth moment %.3f of the unit normal", h.Name, n, sum/float64(n), squares/float64(n), fourth/float64(n))
		}
	}
}

func initialised(t *testing.T, m model.Config, key prng.Key) []HostTensor {
	t.Helper()
	s, err := Init(mesh.One(backendtest.CPU(t)), NewLayout(m, optim.Default()), key)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot(t, s)
}

// TestInitOfEachParameterIsItsOwn: another depth or vocabulary leaves the other parameters as they were; a larger
// vocabulary only adds rows. Another key changes every matrix.
func TestInitOfEachParameterIsItsOwn(t *testing.T) {
	small, large := tiny(), tiny()
	large.VocabSize, large.NumLayers, large.QKNorm = 40, 2, true
	a, b := initialised(t, small, prng.New(6)), initialised(t, large, prng.New(6))
	byName := map[string][]byte{}
	for _, h := range b {
		byName[h.Name] = h.Data
	}
	for _, h := range a {
		if strings.HasPrefix(h.Name, "param/") && !strings.HasPrefix(string(byName[h.Name]), string(h.Data)) {
			t.Errorf("%s is another in a larger model", h.Name)
		}
	}
	same := map[string]string{}
	for _, h := range b {
		if l, ok := strings.CutPrefix(h.Name, "param/layer."); ok && strings.Contains(l, ".w") {
			if other, ok := same[string(h.Data)]; ok {
				t.Errorf("%s and %s are equal", h.Name, other)
			}
			same[string(h.Data)] = h.Name
		}
	}
	for _, name := range differing(a, initialised(t, small, prng.New(7))) {
		if strings.HasSuffix(name, "_norm") {
			t.Errorf("%s hangs on the key", name)
		}
	}
	if d := differing(a, initialised(t, small, prng.New(7))); len(d) != 8 {
		t.Errorf("another key changes only %v", d)
	}
}

// TestSnapshotAndRestore: a state goes to the host, in any order, and back bit for bit, NaNs included, and is left usable.
func TestSnapshotAndRestore(t *testing.T) {
	p := tinyProgram(t)
	s := initState(t, p, 8)
	step(t, p, s, 0.01, randomBatch(1, 2))
	host := snapshot(t, s)
	copy(host[0].Data, []byte{1, 2, 0xc0, 0x7f}) // a NaN with a payload
	shuffled := slices.Clone(host)
	slices.Reverse(shuffled)
	restored, err := Restore(p.mesh, p.Layout(), shuffled)
	if err != nil {
		t.Fatal(err)
	}
	if d := differing(host, snapshot(t, restored)); d != nil {
		t.Errorf("restored with other %v", d)
	}
	saved, err := FromCheckpoint(p.mesh, p.Layout(), toCheckpoint(host))
	if err != nil {
		t.Fatal(err)
	}
	if d := differing(host, snapshot(t, saved)); d != nil {
		t.Errorf("through a checkpoint with other %v", d)
	}
	// The snapshot is a copy: the state goes on and it stays.
	kept := slices.Clone(host[1].Data)
	step(t, p, s, 0.01, randomBatch(2, 2))
	if string(kept) != string(host[1].Data) || len(differing(host, snapshot(t, s))) == 0 {
		t.Error("the snapshot changed with the state, or the state not at all")
	}
	if size := p.Layout().Bytes(); size != totalBytes(host) {
		t.Errorf("the layout says %d bytes, the state has %d", size, totalBytes(host))
	}
}

func totalBytes(host []HostTensor) (n int64) {
	for _, h := range host {
		n += int64(len(h.Data))
	}
	return n
}

func TestRestoreErrors(t *testing.T) {
	p := tinyProgram(t)
	host := snapshot(t, initState(t, p, 9))
	for _, c := range []struct {
		name, want string
		host       []HostTensor
	}{
		{"one less", "lacks count/skipped", host[:len(host)-1]},
		{"one more", "has param/bias, which", append(slices.Clone(host), HostTensor{TensorSpec{Name: "param/bias", Shape: shapes.Make(dtypes.Float32, 1)}, make([]byte, 4)})},
		{"another shape", "has param/embed as", append([]HostTensor{{TensorSpec{Name: "param/embed", Shape: shapes.Make(dtypes.Float32, 2, 16)}, make([]byte, 128)}}, host[1:]...)},
	} {
		if _, err := Restore(p.mesh, p.Layout(), c.host); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	saved := toCheckpoint(host)
	saved[0].DType = "F64"
	if _, err := FromCheckpoint(p.mesh, p.Layout(), saved); err == nil || !strings.Contains(err.Error(), "param/embed has type F64") {
		t.Errorf("float64: %v", err)
	}
}
