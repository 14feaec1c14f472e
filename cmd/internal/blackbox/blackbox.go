// Package blackbox holds the tests that know belayd and belay only as programs:
// they build both, run them as processes, and use nothing but the command line,
// HTTP and NATS. It has no code of its own.
package blackbox
