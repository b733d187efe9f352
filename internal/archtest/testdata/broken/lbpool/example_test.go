package lbpool_test

func Example() {} // is compiled, but not run
