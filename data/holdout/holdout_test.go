package holdout

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naive is Lowest by its definition: sort by hash, take whole groups of equal hashes while they fit, at least the first.
func naive(all []candidate, limit uint64, max int64) (kept []candidate) {
	all = slices.Clone(all)
	all = slices.DeleteFunc(all, func(c candidate) bool { return c.hash >= limit })
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.size, b.size))
	})
	var total int64
	for i := 0; i < len(all); {
		j := i
		for ; j < len(all) && all[j].hash == all[i].hash; j++ {
			total += all[j].size
		}
		if i > 0 && total > max {
			return all[:i]
		}
		i = j
	}
	return all
}

func TestLowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) candidate {
			h := rapid.Uint64Range(0, 30).Draw(t, "hash")
			return candidate{h, int64(h%5 + 1)} // equal hashes are equal texts
		}), 0, 40).Draw(t, "all")
		limit, max := rapid.Uint64Range(0, 31).Draw(t, "limit"), rapid.Int64Range(1, 60).Draw(t, "max")
		want := naive(all, limit, max)
		for seed := range uint64(3) { // any order gives the same
			rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			l := NewLowest(limit, max)
			for _, c := range all {
				l.Add(c.hash, c.size)
			}
			got := slices.Clone(l.items)
			slices.SortFunc(got, func(a, b candidate) int { return cmp.Compare(a.hash, b.hash) })
			if !slices.Equal(got, want) && len(got)+len(want) > 0 {
				t.Fatalf("limit %d, max %d of %v:\n got %v\nwant %v", limit, max, all, got, want)
			}
		}
	})
}
