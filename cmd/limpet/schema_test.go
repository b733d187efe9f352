package main

import (
	"encoding/json"
	"testing"
)

func TestSchema(t *testing.T) {
	status, out, errs := invoke(t, "/nowhere", "schema")
	var schema struct {
		Schema string `json:"$schema"`
	}
	if err := json.Unmarshal([]byte(out), &schema); err != nil || status != ok || errs != "" || schema.Schema == "" {
		t.Errorf("status %d, %v, %.100s%s", status, err, out, errs)
	}
	if status, out, errs := invoke(t, "/nowhere", "schema", "more"); status != misuse || out != "" || errs == "" {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}
