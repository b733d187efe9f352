// Package recipes has scripts for common tasks, each as a case that shows what
// it does: who goes to which server, and who is answered, redirected or turned
// away. The guide docs/guides/scripts.md explains them.
//
//	go test ./examples/recipes
package recipes
