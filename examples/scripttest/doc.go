// Scripttest shows how a DataScript is tested without sockets: by a Go test
// that takes requests through it, and by cases in files. Its script keeps
// clients in a penalty box after too many requests.
//
//	go test ./examples/scripttest
package scripttest
