// Package analysistest is what every analysis.Source is tested with: a world
// whose true counts are known, a transport that fails on purpose, and Exercise,
// the conformance test that each source passes.
//
// The rules that Exercise holds a source to:
//   - Read returns one reading a question, in the questions' order; what goes wrong with one
//     question stands in its reading and spoils no other.
//   - What a source counted over consecutive intervals adds up to what happened
//     in the world, through gaps, restarts, births and disappearances, however
//     the time was cut into intervals, and again when it is asked from an older
//     cursor.
//   - A number that is none, a partial answer, no answer: none of them is ok.
//   - Read ends when its context does.
//   - No error and no reason holds a secret or an address with one in it.
//
// The package starts no server and opens no socket; everything runs inside a
// testing/synctest bubble.
package analysistest
