// Package tracing follows requests through virtual services with OpenTelemetry.
//
// [New] returns a tracer for [limpet.Config].Tracer. Each request has a span of
// kind SERVER. Beneath it are a span of kind CLIENT for each attempt at a
// server, and INTERNAL spans for the scripts of each event and for the wait in
// a queue. Servers get the CLIENT span as their parent. Policies that have
// matched are events of the SERVER span.
//
// Spans have no cookies, credentials, bodies, and keys and values of tables,
// and no texts of errors, which could quote these. What a client sends is cut
// off after 4 KiB. docs/guides/tracing.md has all attributes.
package tracing
