//go:build race

package engine

// raced is 1 in a build with the race detector.
const raced = 1
