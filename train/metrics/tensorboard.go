package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"time"

	"pretrain/internal/vfs"
)

// TensorBoard is a sink that writes an event file TensorBoard reads: TFRecord framing around protobuf Event messages, which
// are few and simple enough to write by hand.
type TensorBoard struct {
	path string
	file vfs.File
	buf  []byte
	err  error
}

// OpenTensorBoard begins an event file in dir for a run that goes on with update step. Every process has its own file, and
// says from which step on TensorBoard is to forget what earlier files have.
func OpenTensorBoard(fsys vfs.FS, dir string, step int64) (*TensorBoard, error) {
	if err := vfs.MkdirAllSync(fsys, dir); err != nil {
		return nil, fmt.Errorf("open TensorBoard folder: %w", err)
	}
	// TensorBoard knows event files by "tfevents" in their names and reads them in the names' order.
	stamp := time.Now()
	path := filepath.Join(dir, fmt.Sprintf("events.out.tfevents.%d.step%09d", stamp.UnixNano(), step))
	if _, err := fsys.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open TensorBoard file %s: it exists already", path)
	}
	file, err := fsys.Create(path)
	if err != nil {
		return nil, fmt.Errorf("open TensorBoard file: %w", err)
	}
	t := &TensorBoard{path: path, file: file, err: fsys.SyncDir(dir)}
	_ = t.write(appendBytes(appendTime(nil, stamp), 3, []byte("brain.Event:2"))) // Event.file_version
	start := appendVarint(nil, 1, 1)                                             // SessionLog.status = START
	_ = t.write(appendBytes(appendVarint(appendTime(nil, stamp), 2, uint64(step)), 7, start))
	if t.err != nil {
		return nil, errors.Join(t.err, file.Close())
	}
	return t, nil
}

// Write implements [Sink]. A loss that is not finite is written as it is: TensorBoard marks it.
func (t *TensorBoard) Write(r Record) error {
	type scalar struct {
		tag   string
		value float64
	}
	scalars := []scalar{
		{"train/loss", float64(r.Loss)},
		{"train/lr", float64(r.LR)},
		{"train/grad_norm", float64(r.GradNorm)},
		{"train/batch_tokens", float64(r.BatchTokens)},
		{"train/skipped", float64(r.Skipped)},
		{"train/tokens", float64(r.Tokens)},
		{"speed/tokens_per_second", float64(r.TokensPerSecond)},
		{"speed/step_ms", float64(r.StepMS)},
		{"speed/data_wait_ms", float64(r.DataWaitMS)},
	}
	if !math.IsNaN(float64(r.MFU)) {
		scalars = append(scalars, scalar{"speed/mfu", float64(r.MFU)})
	}
	for _, source := range slices.Sorted(maps.Keys(r.Epoch)) {
		scalars = append(scalars, scalar{"epoch/" + source, r.Epoch[source]})
	}
	if r.Eval != nil {
		scalars = append(scalars, scalar{"val/loss", float64(r.ValLoss)}, scalar{"val/bpb", float64(r.ValBPB)})
	}
	var summary []byte
	for _, s := range scalars {
		value := appendBytes(nil, 1, []byte(s.tag))
		value = binary.AppendUvarint(value, 2<<3|5) // simple_value, fixed32
		value = binary.LittleEndian.AppendUint32(value, math.Float32bits(float32(s.value)))
		summary = appendBytes(summary, 1, value)
	}
	event := appendVarint(appendTime(nil, time.Now()), 2, uint64(r.Step))
	return t.write(appendBytes(event, 5, summary))
}

// Flush implements [Sink].
func (t *TensorBoard) Flush() error {
	if t.err == nil {
		if err := t.file.Sync(); err != nil {
			t.err = fmt.Errorf("flush TensorBoard file %s: %w", t.path, err)
		}
	}
	return t.err
}

// Close implements [Sink].
func (t *TensorBoard) Close() error { return errors.Join(t.Flush(), t.file.Close()) }

// write frames one Event as a TFRecord: its length, the length's checksum, the event, its checksum.
func (t *TensorBoard) write(event []byte) error {
	if t.err != nil {
		return t.err
	}
	b := binary.LittleEndian.AppendUint64(t.buf[:0], uint64(len(event)))
	b = binary.LittleEndian.AppendUint32(b, maskedCRC(b))
	b = append(b, event...)
	t.buf = binary.LittleEndian.AppendUint32(b, maskedCRC(event))
	if _, err := t.file.Write(t.buf); err != nil {
		t.err = fmt.Errorf("write TensorBoard file %s: %w", t.path, err)
	}
	return t.err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is TFRecord's checksum: CRC-32C, rotated and offset, because CRCs of data that holds CRCs are weak.
func maskedCRC(b []byte) uint32 {
	crc := crc32.Checksum(b, castagnoli)
	return (crc>>15 | crc<<17) + 0xa282ead8
}

// The protobuf fields in use: Event.wall_time = 1 (double, seconds), Event.step = 2 (int64).

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendUvarint(b, 1<<3|1)
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(t.UnixNano())/1e9))
}

func appendVarint(b []byte, field, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, field<<3), value)
}

func appendBytes(b []byte, field uint64, value []byte) []byte {
	b = binary.AppendUvarint(b, field<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}
