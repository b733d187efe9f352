package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/limpetlb/limpet/config"
)

// reports are the formats in which check writes a fault or a warning.
var reports = map[string]func(out io.Writer, severity string, e *config.Error){
	"text": reportText, "json": reportJSON, "github": reportGitHub,
}

// reportText writes a line as compilers do, which editors understand.
func reportText(out io.Writer, severity string, e *config.Error) {
	place, text := apart(e)
	if severity == "warning" {
		place += "warning: "
	}
	fmt.Fprintln(out, place+text)
}

// apart returns the text of e in two parts: its place and the rest.
func apart(e *config.Error) (place, text string) {
	rest := *e
	rest.File = ""
	text = rest.Error()
	return strings.TrimSuffix(e.Error(), text), text
}

// A finding is a fault or a warning in JSON.
type finding struct {
	Severity   string `json:"severity"`
	File       string `json:"file,omitempty"`
	Line       int    `json:"line,omitempty"`
	Column     int    `json:"column,omitempty"`
	Path       string `json:"path,omitempty"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"`
}

// reportJSON writes an object on a line of its own.
func reportJSON(out io.Writer, severity string, e *config.Error) {
	text := config.Error{Value: e.Value, Err: e.Err}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(finding{severity, e.File, e.Line, e.Column, e.Path, text.Error(), e.Suggestion}) // as of the other formats
}

// reportGitHub writes a command for the log of a job of GitHub Actions, which
// shows it beside the line of the file.
func reportGitHub(out io.Writer, severity string, e *config.Error) {
	command := "error"
	if severity == "warning" {
		command = severity
	}
	var properties []string
	add := func(name string, value any) {
		properties = append(properties, name+"="+gitHubProperty.Replace(fmt.Sprint(value)))
	}
	if e.File != "" {
		add("file", e.File)
	}
	if e.Line > 0 {
		add("line", e.Line)
	}
	if e.Column > 0 {
		add("col", e.Column)
	}
	_, text := apart(e)
	fmt.Fprintf(out, "::%s %s::%s\n", command, strings.Join(properties, ","), gitHubMessage.Replace(text))
}

// What commands have in place of characters that end them.
var (
	gitHubMessage  = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	gitHubProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
