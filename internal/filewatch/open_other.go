//go:build !unix

package filewatch

const doNotBlock = 0 // named pipes have no place among the files
