// Package traffictest holds what tests of routers, and of what uses them, need:
// Exercise, the conformance test that every traffic.Router passes, and Fake, a
// Router in memory whose faults are scripted.
//
// The rules of the package:
//   - Exercise sees a router only through traffic.Router and its endpoint only
//     through the hands that the router's test gives it in a World: what is true,
//     what was written, another writer, and the faults its kind of endpoint can
//     have.
//   - What a kind of endpoint cannot do (mirror, versions, a fault) is said in
//     the World, and the table that Exercise logs says so too.
//   - Fake starts no goroutine and waits with timers alone.
//
// It does not test what a router does with real traffic: each router's own tests
// do.
package traffictest
