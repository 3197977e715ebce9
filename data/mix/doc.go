// Package mix says which tokens a run sees at which step: a pure function of the data, the seed and the step.
//
// # The problem
//
// A run mixes sources (web, code, books, chats …) in proportions that change from stage to stage. It is interrupted and
// resumed, moved to other machines, branched for another decay. Asked "what is in the batch of step 41,000?", a loader with a
// cursor, a shuffled index or worker queues has to have been there. Here it is computed: nothing is saved, nothing is
// replayed, and the number of devices, workers or micro-batches has no way in.
//
// # One sequence, from step to tokens
//
// Each arrow is a function with an inverse, computed in O(1), a few in O(log n):
//
//	step, i ──▶ row of the run ──▶ stage, row of the stage ──▶ source, row of the source ──▶ documents
//	     batch schedule       stage edges               even dealing              package pack
//
// 1. The rows of the run are one line. A row is SeqLen tokens of one source. The batch of step s is the rows from
// SequencesBefore(s) on; a batch ramp cuts the line at other places and changes nothing on it.
//
// 2. Stages are stretches of the line. Presets ([Config.Scheme]) and rules ([Config.Mix]) are worked out once, by [Expand],
// into plain stages with weights ([Plan.Stages]). Their edges fall on steps.
//
// 3. A stage deals its rows out to sources. If source A has share p, it has floor(p·n + φ) of the first n rows, and another
// source the rest; more sources are dealt out by a tree of such pairs (type share). It is the most even order there is, as
// one draws a line on a raster, so a source's share of any stretch is right to within a few rows (below 4 with twelve sources;
// 3 rows are 0.02% of 1,000 steps of 16 sequences), where drawing at random would be off by the square root. φ comes from
// the seed. The same formula, solved for n, says where the source's j-th row of the stage is.
//
// 4. A source's rows are counted on from stage to stage: row r of a source is the next one that no earlier stage has
// taken, through all its epochs. Which documents it holds hangs on the source's own name, content hash, the seed and r,
// and is package pack's matter: each epoch shuffles the source anew, and each document is in it exactly once.
//
// # What follows
//
//   - Resume at any step, from any machine, is exact.
//   - What a later stage does, or a source that only a later stage has, cannot change an earlier batch: the line is only
//     read up to there. The same holds for the run's length, as long as stage edges are not fractions of it.
//   - Asking for too many epochs is arithmetic, done before the run: [Expand] fails with the numbers.
//   - Every arrow can be walked backwards: [Plan.StepsOf] says at which steps a document was or will be seen.
//
// # Shorter sequences in some stages
//
// A stage with SeqLen 1024 in a run of 4096 cuts each row in four sequences, which come in one batch. Tokens per step, rows,
// epochs and everything above stay as they are, and the step function is compiled for two shapes, [B, 4096] and [4B, 1024].
// The price: the four come from neighbouring places of a source.
//
// # What weights mean
//
// Weights are shares of tokens, padding not counted: a source packed best_fit, whose rows are 5% padding, is given 5% more
// rows. Its share then holds on average, not row by row.
package mix
