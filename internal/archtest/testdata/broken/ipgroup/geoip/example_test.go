package geoip_test

import "fmt"

func Example() {
	fmt.Println("runs")
	// Output: runs
}
