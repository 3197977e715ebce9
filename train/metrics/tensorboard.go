package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
	file *appendFile
	buf  []byte
}

// eventFile is the name of an event file; TensorBoard knows them by "tfevents" and reads them in the order of their names.
const eventFile = "events.out.tfevents.%d.step%09d"

// OpenTensorBoard begins an event file in dir for a run that goes on with update step. Every process has its own file, and says
// from which step on TensorBoard is to forget what earlier files have. Its name sorts after theirs, even if the clock was set
// back.
func OpenTensorBoard(fsys vfs.FS, dir string, step int64, patience Patience) (*TensorBoard, error) {
	if err := vfs.MkdirAllSync(fsys, dir); err != nil {
		return nil, fmt.Errorf("open TensorBoard folder: %w", err)
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open TensorBoard folder: %w", err)
	}
	now := time.Now()
	stamp := now.UnixNano()
	for _, e := range entries {
		var other, from int64
		if _, err := fmt.Sscanf(e.Name(), eventFile, &other, &from); err == nil {
			stamp = max(stamp, other+1)
		}
	}
	path := filepath.Join(dir, fmt.Sprintf(eventFile, stamp, step))
	file, err := openAppend(fsys, path, patience)
	if err != nil {
		return nil, fmt.Errorf("open TensorBoard file: %w", err)
	}
	t := &TensorBoard{file: file}
	start := appendVarint(nil, 1, 1) // SessionLog.status = START
	err = errors.Join(
		t.write(appendBytes(appendTime(nil, now), 3, []byte("brain.Event:2"))), // Event.file_version
		t.write(appendBytes(appendVarint(appendTime(nil, now), 2, uint64(step)), 7, start)),
	)
	if err != nil {
		return nil, errors.Join(err, file.file.Close())
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
	if r.Spikes > 0 { // most runs have no need of the chart
		scalars = append(scalars, scalar{"train/spikes", float64(r.Spikes)})
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
	if err := t.file.flush(); err != nil {
		return fmt.Errorf("flush TensorBoard file %s: %w", t.file.path, err)
	}
	return nil
}

// Close implements [Sink].
func (t *TensorBoard) Close() error {
	if err := t.file.close(); err != nil {
		return fmt.Errorf("close TensorBoard file %s: %w", t.file.path, err)
	}
	return nil
}

// write frames one Event as a TFRecord: its length, the length's checksum, the event, its checksum.
func (t *TensorBoard) write(event []byte) error {
	b := binary.LittleEndian.AppendUint64(t.buf[:0], uint64(len(event)))
	b = binary.LittleEndian.AppendUint32(b, maskedCRC(b))
	b = append(b, event...)
	t.buf = binary.LittleEndian.AppendUint32(b, maskedCRC(event))
	if err := t.file.write(t.buf); err != nil {
		return fmt.Errorf("write TensorBoard file %s: %w", t.file.path, err)
	}
	return nil
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
