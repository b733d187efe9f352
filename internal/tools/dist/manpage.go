package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// A manual is a page of the system's manual, made from one of the documents.
type manual struct {
	name, section, title string
	what                 string // it is, in one line
	document             string
	synopsis, more       string // Markdown, in front of the document and behind it
}

const guides = "The guides are at https://github.com/limpetlb/limpet/tree/main/docs\n"

var manPages = []manual{
	{
		name: "limpet", section: "1", title: "User Commands",
		what:     "run, check, test and explain virtual services that stick clients to servers",
		document: "docs/reference/command.md",
		synopsis: "## SYNOPSIS\n\n**limpet** *COMMAND* [*FLAGS*] [*ARGUMENTS*]\n",
		more: "## FILES\n\n`/etc/limpet/limpet.yaml`\n: the configuration that the service limpet.service serves\n\n" +
			"## SEE ALSO\n\n**limpet.yaml**(5), **systemctl**(1)\n\n" + guides,
	},
	{
		name: "limpet.yaml", section: "5", title: "File Formats",
		what:     "configuration file of limpet",
		document: "docs/reference/configuration.md",
		more:     "## SEE ALSO\n\n**limpet**(1)\n\n" + guides,
	},
}

func (m manual) file() string { return m.name + "." + m.section }

// manPage makes a page in the language of man.
func (r release) manPage(m manual) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(r.root, m.document))
	if err != nil {
		return nil, err
	}
	_, body, _ := strings.Cut(string(text), "\n") // without its title
	body = paragraphs(body)
	if !strings.Contains(body, "\n## ") {
		body = strings.ReplaceAll(body, "\n### ", "\n## ")
	}
	page := fmt.Sprintf("# %s %s %s \"limpet %s\" \"%s\"\n\n## NAME\n\n%s - %s\n\n%s\n## DESCRIPTION\n\n%s\n\n%s",
		strings.ToUpper(m.name), m.section, r.time.Format("2006-01-02"), r.number(), m.title, m.name, m.what, m.synopsis, strings.TrimSpace(body), m.more)
	return tidy(md2man.Render([]byte(page))), nil
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
