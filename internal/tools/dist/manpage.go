package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

const guides = "The guides are at https://github.com/limpetlb/limpet/tree/main/docs\n"

// What limpet(1) has in front of the section SEE ALSO, and behind it.
const (
	commandFiles = ".SH FILES\n.TP\n\\fB/etc/limpet/limpet.yaml\\fP\nthe configuration that the service limpet.service serves\n"
	commandSee   = ".PP\n\\fBlimpet-help\\fP(1), \\fBlimpet.yaml\\fP(5), \\fBsystemctl\\fP(1)\n.PP\n" + guides
)

// configurationPage is limpet.yaml(5). Those of the commands are made with
// them.
func (r release) configurationPage() ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(r.root, "docs/reference/configuration.md"))
	if err != nil {
		return nil, err
	}
	_, body, _ := strings.Cut(string(text), "\n") // without its title
	body = paragraphs(body)
	if !strings.Contains(body, "\n## ") {
		body = strings.ReplaceAll(body, "\n### ", "\n## ")
	}
	page := fmt.Sprintf("# LIMPET.YAML 5\n\n## NAME\n\nlimpet.yaml - configuration file of limpet\n\n"+
		"## DESCRIPTION\n\n%s\n\n## SEE ALSO\n\n**limpet**(1), **limpet-help**(1)\n\n%s", strings.TrimSpace(body), guides)
	return md2man.Render([]byte(page)), nil
}

// head is the first line of a page, with its name and section.
var head = regexp.MustCompile(`(?m)^\.TH "?([^ "]+)"? "?([0-9])"?.*$`)

// option is an option of a command, as cobra writes it: a paragraph whose
// second line begins with a tab.
var option = regexp.MustCompile(`(?m)(?:^\.PP\n)?^(\\fB-.*)\n\t(.*)$`)

// manPage completes a page: with the release in its head, where further pages
// and files are, and without what programs that check pages complain about.
func (r release) manPage(name string, page []byte) []byte {
	title := "File Formats"
	if strings.HasSuffix(name, ".1") {
		title = "User Commands"
	}
	page = head.ReplaceAll(page, fmt.Appendf(nil, `.TH "$1" "$2" "%s" "limpet %s" "%s"`, r.time.Format("2006-01-02"), r.number(), title))
	page = option.ReplaceAllFunc(page, func(text []byte) []byte {
		m := option.FindSubmatch(text)
		names := strings.ReplaceAll(strings.TrimSuffix(string(m[1]), "[=false]"), "-", `\-`) // to be copied
		return fmt.Appendf(nil, ".TP\n%s\n%s", names, m[2])
	})
	if name == "limpet.1" {
		page = append(bytes.Replace(page, []byte(".SH SEE ALSO"), []byte(commandFiles+".SH SEE ALSO"), 1), commandSee...)
	}
	return tidy(page)
}

var (
	localLink = regexp.MustCompile(`\[([^\]]*)\]\([^):]*\)`)
	webLink   = regexp.MustCompile(`\[([^\]]*)\]\((https?:[^)]*)\)`)
	pipe      = regexp.MustCompile(`\s*\|\s*`)
)

// paragraphs turns tables into lists, since cells of several lines do not fit a
// terminal, and takes out links to other documents.
func paragraphs(text string) string {
	var b strings.Builder
	var head []string // of the table
	code := false
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if code {
			b.WriteString(line + "\n")
			continue
		}
		line = localLink.ReplaceAllString(line, "$1")
		line = webLink.ReplaceAllString(line, "$1 ($2)")
		switch {
		case !strings.HasPrefix(line, "|"):
			head = nil
			b.WriteString(line + "\n")
		case head == nil:
			head = cells(line)
		case strings.HasPrefix(line, "|-"):
		default:
			row := cells(line)
			fmt.Fprintf(&b, "%s\n: %s\n", row[0], describe(head, row))
			if i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|") {
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}

func cells(line string) []string {
	line = strings.ReplaceAll(strings.Trim(strings.TrimSpace(line), "|"), `\|`, "\x00")
	row := pipe.Split(strings.TrimSpace(line), -1)
	for i := range row {
		row[i] = strings.ReplaceAll(row[i], "\x00", "|")
	}
	return row
}

// describe joins the cells of a row behind the first; from the third one on
// they have the names of their columns.
func describe(head, row []string) string {
	text := row[1]
	for i := 2; i < len(row); i++ {
		if row[i] != "" {
			text += ". " + head[i] + ": " + row[i]
		}
	}
	return text
}

var url = regexp.MustCompile(`https?://[^ )]*`)

// tidy takes out empty lines outside of code and blanks at the ends of lines,
// sets code apart, breaks long lines, and lets addresses break behind slashes:
// programs that check pages complain about these.
func tidy(page []byte) []byte {
	var b strings.Builder
	code := false
	for line := range strings.Lines(string(page)) {
		line = strings.TrimRight(line, " \t\n")
		switch line {
		case ".EX":
			code = true
			b.WriteString(".PP\n")
		case ".EE":
			code = false
		}
		switch {
		case code || strings.HasPrefix(line, "."):
			b.WriteString(line + "\n")
		case line != "":
			line = url.ReplaceAllStringFunc(line, func(u string) string { return strings.ReplaceAll(u, "/", `/\:`) })
			b.WriteString(wrap(line) + "\n")
		}
	}
	return []byte(b.String())
}

// wrap breaks a line of text where it has blanks. A line that begins with a dot
// or an apostrophe would be a command.
func wrap(line string) string {
	var b strings.Builder
	length := 0
	for i, word := range strings.Split(line, " ") {
		switch {
		case i == 0:
		case length+1+len(word) > 78 && word != "" && word[0] != '.' && word[0] != '\'':
			b.WriteByte('\n')
			length = 0
		default:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(word)
		length += len(word)
	}
	return b.String()
}
