package main

import (
	"net/http"
	"net/http/httputil"

	_ "github.com/limpetlb/limpet/internal/upward"
)

func main() { _ = httputil.ReverseProxy{Director: nil, Transport: http.DefaultTransport} }

func Exported() {}
