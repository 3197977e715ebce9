package sensitive

import "math/bits"

// automaton finds many words in one pass (Aho and Corasick, 1975). Its states are the beginnings of words. What follows the root
// is a table; the edges further down, of which a state has one or two, share a hash table, so that a list of a hundred thousand
// words takes some tens of megabytes.
type automaton struct {
	root  [256]int32
	edges map[uint64]int32 // by state and byte, while words are added
	slots []slot           // the same, when they are all there
	shift uint
	fail  []int32 // the longest proper end of a state's text that is a state, too
	out   []int32 // the word that ends in a state, -1: none
	next  []int32 // the nearest state along fail that ends a word, 0: none
	size  []int32 // length of a state's text
}

// slot is an edge in the hash table. No edge has the key 0: the root's are not in it.
type slot struct {
	key uint64
	to  int32
}

func key(state int32, c byte) uint64 { return uint64(state)<<8 | uint64(c) }

// build makes the automaton of words, which are in lower case.
func build(words []string) *automaton {
	a := &automaton{edges: map[uint64]int32{}}
	a.add(0)
	for i, w := range words {
		state := int32(0)
		for j := range len(w) {
			next := a.step(state, w[j])
			if next == 0 {
				next = a.add(int32(j + 1))
				if state == 0 {
					a.root[w[j]] = next
				} else {
					a.edges[key(state, w[j])] = next
				}
			}
			state = next
		}
		if state > 0 {
			a.out[state] = int32(i)
		}
	}
	a.freeze()
	a.link(words)
	return a
}

func (a *automaton) add(size int32) int32 {
	a.fail, a.out, a.next, a.size = append(a.fail, 0), append(a.out, -1), append(a.next, 0), append(a.size, size)
	return int32(len(a.fail) - 1)
}

// step follows an edge; 0: there is none.
func (a *automaton) step(state int32, c byte) int32 {
	if state == 0 {
		return a.root[c]
	}
	if a.edges != nil {
		return a.edges[key(state, c)]
	}
	k := key(state, c)
	for i := k * 0x9e3779b97f4a7c15 >> a.shift; ; i = (i + 1) & uint64(len(a.slots)-1) {
		if s := a.slots[i]; s.key == k || s.key == 0 {
			return s.to
		}
	}
}

// freeze makes the hash table of the edges.
func (a *automaton) freeze() {
	n := bits.Len(uint(2*len(a.edges) + 1))
	a.slots, a.shift = make([]slot, 1<<n), uint(64-n)
	for k, to := range a.edges {
		i := k * 0x9e3779b97f4a7c15 >> a.shift
		for a.slots[i].key != 0 {
			i = (i + 1) & uint64(len(a.slots)-1)
		}
		a.slots[i] = slot{k, to}
	}
	a.edges = nil
}

// link computes fail and next, shorter states before longer ones.
func (a *automaton) link(words []string) {
	type item struct {
		state, parent int32
		c             byte
	}
	longest := 0
	for _, w := range words {
		longest = max(longest, len(w))
	}
	levels := make([][]item, longest+1)
	done := make([]bool, len(a.fail))
	for _, w := range words {
		state := int32(0)
		for j := range len(w) {
			next := a.step(state, w[j])
			if !done[next] {
				done[next] = true
				levels[j+1] = append(levels[j+1], item{next, state, w[j]})
			}
			state = next
		}
	}
	for depth, level := range levels {
		for _, it := range level {
			if depth > 1 {
				f := a.fail[it.parent]
				for f > 0 && a.step(f, it.c) == 0 {
					f = a.fail[f]
				}
				a.fail[it.state] = a.step(f, it.c)
			}
			f := a.fail[it.state]
			if a.next[it.state] = f; a.out[f] < 0 {
				a.next[it.state] = a.next[f]
			}
		}
	}
}

// find calls f for every occurrence of a word.
func (a *automaton) find(text string, f func(word int32)) {
	state := int32(0)
	for i := range len(text) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		next := a.step(state, c)
		for next == 0 && state > 0 {
			state = a.fail[state]
			next = a.step(state, c)
		}
		state = next
		for s := state; s > 0; s = a.next[s] {
			if w := a.out[s]; w >= 0 && whole(text, i+1-int(a.size[s]), i+1) {
				f(w)
			}
		}
	}
}

// whole reports whether text[start:end] is not a part of a longer word in ASCII letters or digits.
func whole(text string, start, end int) bool {
	return !(isWord(text[start]) && start > 0 && isWord(text[start-1])) && !(isWord(text[end-1]) && end < len(text) && isWord(text[end]))
}

func isWord(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' }
