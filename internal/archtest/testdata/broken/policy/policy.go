// Package policy has a test that sleeps.
package policy
