// Package admin shows what running virtual services do, and lets operators
// change what is safe to change while they run: take servers out of use, drain
// them, change their ratios, edit persistence tables and IP groups, and reload
// the configuration. It is one [http.Handler] with JSON, for programs, scripts
// and people with curl.
//
//	adm, err := admin.New(admin.Config{Services: services})
//	…
//	ln, err := admin.Listen("/run/shop/admin.sock", 0o600)
//	…
//	go admin.NewServer(adm).Serve(ln)
//	go adm.Run(ctx)
//
// Whoever may open the socket may do everything. Over TCP, callers need a token
// or a client certificate; there is no anonymous access. A program that has a
// login of its own mounts the handler behind it, and says with [WithRole] who
// the caller is.
//
// The document at /v1/openapi.json describes all routes. Routes and fields may
// be added to version 1; none is renamed or removed.
package admin
