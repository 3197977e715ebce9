package shard

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
)

// This file reads where documents came from: .docs and .ids.

// HasDocs reports whether the shard keeps a record of its documents. One of another tool does not.
func (r *Reader) HasDocs() bool { return r.docs != nil }

// Doc says where a document came from. Errors: the shard was written by another tool, which keeps no record of that.
func (r *Reader) Doc(document int64) (Doc, error) {
	if r.docs == nil {
		return Doc{}, fmt.Errorf("shard %s: no %s.docs: another tool wrote it, and its documents have no names", r.prefix, r.prefix)
	}
	if document < 0 || document >= r.documents {
		return Doc{}, fmt.Errorf("shard %s: document %d of %d", r.prefix, document, r.documents)
	}
	var b [docRowSize]byte
	if err := readAt(r.docs, r.prefix+".docs", b[:], int64(len(docsMagic))+document*docRowSize); err != nil {
		return Doc{}, err
	}
	u64 := func(i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
	id, err := r.name(u64(0), binary.LittleEndian.Uint32(b[32:]))
	if err != nil {
		return Doc{}, err
	}
	path, err := r.name(u64(8), binary.LittleEndian.Uint32(b[36:]))
	if err != nil {
		return Doc{}, err
	}
	doc := Doc{ID: id, Path: path, Bytes: int64(u64(16)), Line: int64(u64(24))}
	about, err := r.name(u64(40), binary.LittleEndian.Uint32(b[48:]))
	if err == nil && about != "" {
		if err = json.Unmarshal([]byte(about), &doc.Attributes); err != nil {
			err = fmt.Errorf("%w: %s.ids: attributes of document %d: %w", ErrCorrupt, r.prefix, document, err)
		}
	}
	return doc, err
}

func (r *Reader) name(at uint64, length uint32) (string, error) {
	if at > uint64(r.idsSize) || uint64(length) > uint64(r.idsSize)-at {
		return "", fmt.Errorf("%w: %s.docs points beyond %s.ids", ErrCorrupt, r.prefix, r.prefix)
	}
	b := make([]byte, length)
	err := readAt(r.ids, r.prefix+".ids", b, int64(at))
	return string(b), err
}

// Lookup lists the documents with an id, in order. It reads all of .docs, and of .ids only what has the right length. In a shard
// of another tool, which has no names, a document's id is its number.
func (r *Reader) Lookup(id string) ([]int64, error) {
	if r.docs == nil {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil || n < 0 || n >= r.documents {
			return nil, nil
		}
		return []int64{n}, nil
	}
	const batch = 4096
	var found []int64
	rows := make([]byte, batch*docRowSize)
	for first := int64(0); first < r.documents; first += batch {
		part := rows[:min(batch, r.documents-first)*docRowSize]
		if err := readAt(r.docs, r.prefix+".docs", part, int64(len(docsMagic))+first*docRowSize); err != nil {
			return nil, err
		}
		for i := int64(0); len(part) > 0; i, part = i+1, part[docRowSize:] {
			length := binary.LittleEndian.Uint32(part[32:])
			if int(length) != len(id) {
				continue
			}
			name, err := r.name(binary.LittleEndian.Uint64(part), length)
			if err != nil {
				return nil, err
			}
			if name == id {
				found = append(found, first+i)
			}
		}
	}
	return found, nil
}
