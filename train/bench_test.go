package train

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pretrain/internal/backendtest"
	"pretrain/internal/prng"
	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"
	"pretrain/train/spike"
)

// benchModels are the three sizes that speed and memory are measured at.
var benchModels = []struct {
	name string
	model.Config
}{
	{"quickstart", model.Config{DModel: 192, NumLayers: 4, VocabSize: 4096, MaxSeqLen: 256}},
	{"9m", model.Config{Preset: "9m", VocabSize: 8192, MaxSeqLen: 256}},
	{"30m", model.Config{Preset: "30m", VocabSize: 8192, MaxSeqLen: 256}},
}

// BenchmarkStep times one training step of 4,096 tokens; tokens/s is what to look at.
func BenchmarkStep(b *testing.B) {
	for _, shape := range benchModels {
		for _, precision := range []model.Precision{model.BF16, model.FP32} {
			for _, kind := range []optim.Kind{optim.AdamW, optim.Muon} {
				b.Run(fmt.Sprintf("%s/%s/%s", shape.name, precision, kind), func(b *testing.B) {
					o := optim.Default()
					o.Kind = kind
					benchmarkStep(b, shape.Config.Resolve(), precision, o)
				})
			}
		}
	}
}

// BenchmarkDocumentMask times a step with and without a mask of documents, which are a quarter of a sequence long. Processor time
// is what to compare: another job on the machine does not change it much.
func BenchmarkDocumentMask(b *testing.B) {
	for _, seqLen := range []int{256, 1024} {
		for _, masked := range []bool{false, true} {
			b.Run(fmt.Sprintf("T%d/documents=%v", seqLen, masked), func(b *testing.B) {
				m := model.Config{DModel: 192, NumLayers: 4, VocabSize: 4096, MaxSeqLen: seqLen, DocumentMask: masked}
				benchmarkStep(b, m.Resolve(), model.BF16, optim.Default())
			})
		}
	}
}

// BenchmarkLength times a step of 4,096 tokens in sequences of several lengths.
func BenchmarkLength(b *testing.B) {
	for _, precision := range []model.Precision{model.BF16, model.FP32} {
		for _, seqLen := range []int{256, 512, 1024, 2048, 4096} {
			b.Run(fmt.Sprintf("%s/T%d", precision, seqLen), func(b *testing.B) {
				m := benchModels[0].Config
				m.MaxSeqLen = seqLen
				benchmarkStep(b, m.Resolve(), precision, optim.Default())
			})
		}
	}
}

// BenchmarkMicroBatches times a step of 4,096 tokens in one, two and four micro-batches.
func BenchmarkMicroBatches(b *testing.B) {
	for _, parts := range []int{1, 2, 4} {
		b.Run(strconv.Itoa(parts), func(b *testing.B) {
			m := benchModels[0].Resolve()
			timeSteps(b, mesh.One(backendtest.CPU(b)), m, model.BF16, optim.Default(), benchBatch(m).Split(4096/m.MaxSeqLen/parts)...)
		})
	}
}

// BenchmarkMesh times a step of the quickstart's model, but of four heads so that they can be divided, on grids of virtual devices, which share the machine's cores: what it is
// slower than on one device is the price of dividing the program.
func BenchmarkMesh(b *testing.B) {
	m := benchModels[0].Config
	m.HeadDim = 48
	m = m.Resolve()
	for _, c := range []mesh.Config{
		{Data: 1, FSDP: 1, Tensor: 1}, {Data: 2, FSDP: 1, Tensor: 1}, {Data: 1, FSDP: 2, Tensor: 1}, {Data: 1, FSDP: 1, Tensor: 2},
		{Data: 4, FSDP: 1, Tensor: 1}, {Data: 1, FSDP: 4, Tensor: 1}, {Data: 1, FSDP: 1, Tensor: 4}, {Data: 1, FSDP: 2, Tensor: 2},
	} {
		b.Run(c.String(), func(b *testing.B) {
			grid, err := mesh.New(backendtest.Devices(b, c.Data*c.FSDP*c.Tensor), c)
			if err != nil {
				b.Fatal(err)
			}
			timeSteps(b, grid, m, model.BF16, optim.Default(), benchBatch(m))
		})
	}
}

// benchmarkStep times steps of 4,096 random tokens on one device.
func benchmarkStep(b *testing.B, m model.Config, precision model.Precision, o optim.Config) {
	timeSteps(b, mesh.One(backendtest.CPU(b)), m, precision, o, benchBatch(m))
}

func timeSteps(b *testing.B, grid *mesh.Mesh, m model.Config, precision model.Precision, o optim.Config, batches ...*feed.Batch) {
	n := model.NumericsFor(grid.Backend(), precision)
	p, err := NewProgram(grid, model.Decoder{Config: m, Numerics: n, Remat: model.RematNone}, loss.Head{Numerics: n}, o)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Finalize()
	state, err := Init(grid, p.Layout(), prng.New(1))
	if err != nil {
		b.Fatal(err)
	}
	defer state.Finalize()
	step := func() {
		if _, err := p.Step(state, batches, 1e-3, spike.None); err != nil {
			b.Fatal(err)
		}
	}
	start := time.Now()
	step()
	first := time.Since(start)
	before := processorTime(b)
	b.ResetTimer()
	for range b.N {
		step()
	}
	b.ReportMetric(4096*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric(first.Seconds(), "first-s") // builds the graph and compiles
	b.ReportMetric((processorTime(b)-before).Seconds()*1e3/float64(b.N), "cpu-ms/step")
}

// benchBatch is 4,096 random tokens, in documents a quarter of a sequence long.
func benchBatch(m model.Config) *feed.Batch {
	batch := feed.NewBatch(4096/m.MaxSeqLen, m.MaxSeqLen)
	random := prng.New(2)
	for i := range batch.Tokens {
		batch.Tokens[i] = int32(random.Uint64At(uint64(i)) % uint64(m.VocabSize))
	}
	for i := range batch.Weights {
		batch.Weights[i] = 1.0 / 4096
		place := i % m.MaxSeqLen
		batch.Segments[i], batch.Positions[i] = int32(1+4*place/m.MaxSeqLen), int32(place%(m.MaxSeqLen/4))
	}
	return batch
}

// processorTime is user and system time of the process.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLooks compares the processor time of the two steps of a look with that of two plain ones, turn about in one process, and
// reports what looks at every 50th step cost in the mean.
func BenchmarkLooks(b *testing.B) {
	be := backendtest.CPU(b)
	n := model.NumericsFor(be, model.BF16)
	m := model.Config{DModel: 192, NumLayers: 4, VocabSize: 4096, MaxSeqLen: 256}.Resolve()
	o := optim.Default()
	o.Kind = optim.Muon
	p, err := NewProgram(mesh.One(be), model.Decoder{Config: m, Numerics: n, Remat: model.RematNone}, loss.Head{Numerics: n}, o)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Finalize()
	state, err := Init(mesh.One(be), p.Layout(), prng.New(1))
	if err != nil {
		b.Fatal(err)
	}
	batch := benchBatch(m)
	look := &looker{every: 2} // steps 2k and 2k+1 are a look
	plain := &looker{}
	pair := func(l *looker) time.Duration {
		before := processorTime(b)
		for step := range int64(2) {
			placed, err := p.Place([]*feed.Batch{batch})
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := l.step(p, state, 2+step, placed, 1e-3, spike.None); err != nil {
				b.Fatal(err)
			}
		}
		return processorTime(b) - before
	}
	pair(look) // compile
	pair(plain)
	var looked, stepped time.Duration
	for b.Loop() {
		looked += pair(look)
		stepped += pair(plain)
	}
	look.close()
	b.ReportMetric(float64(looked.Milliseconds())/float64(b.N), "look-cpu-ms")
	b.ReportMetric(float64(stepped.Milliseconds())/float64(b.N), "plain-cpu-ms")
	b.ReportMetric(100*(float64(looked)/float64(stepped)-1)*2/50, "%overhead-every-50")
}

// BenchmarkMemory holds what the compiler says a step takes against what the process then grows by, its largest since the programs
// were compiled. With glibc's own settings memory that was freed goes back to the system, or the compiler's would be used again and
// not counted:
//
//	GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072 go test ./train -run '^$' -bench Memory -benchtime 1x
func BenchmarkMemory(b *testing.B) {
	for _, shape := range benchModels {
		for _, precision := range []model.Precision{model.BF16, model.FP32} {
			for _, parts := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%s/micro=%d", shape.name, precision, parts), func(b *testing.B) {
					for b.Loop() {
						benchmarkMemory(b, shape.Config.Resolve(), precision, parts)
					}
				})
			}
		}
	}
}

func benchmarkMemory(b *testing.B, m model.Config, precision model.Precision, parts int) {
	be := backendtest.CPU(b)
	n := model.NumericsFor(be, precision)
	p, err := NewProgram(mesh.One(be), model.Decoder{Config: m, Numerics: n, Remat: model.RematNone}, loss.Head{Numerics: n}, optim.Default())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Finalize()
	sequences := 4096 / m.MaxSeqLen / parts
	predicted, err := p.Peak(sequences, m.MaxSeqLen, parts)
	if err != nil {
		b.Fatal(err)
	}
	batches := benchBatch(m).Split(sequences)
	debug.FreeOSMemory()
	before := processMemory(b, "VmRSS")
	state, err := Init(mesh.One(be), p.Layout(), prng.New(1))
	if err != nil {
		b.Fatal(err)
	}
	defer state.Finalize()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the largest is now's
		b.Fatal(err)
	}
	for range 3 {
		if _, err := p.Step(state, batches, 1e-3, spike.None); err != nil {
			b.Fatal(err)
		}
	}
	real := processMemory(b, "VmHWM") - before
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(predicted)/(1<<20), "predicted-MiB")
	b.ReportMetric(float64(real)/(1<<20), "real-MiB")
	b.ReportMetric(100*(float64(predicted)/float64(real)-1), "%error")
}

// processMemory is a line of /proc/self/status in bytes.
func processMemory(b *testing.B, name string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, name+": %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	b.Fatalf("no %s in /proc/self/status", name)
	return 0
}
