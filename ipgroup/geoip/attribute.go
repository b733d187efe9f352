package geoip

import (
	"fmt"
	"strconv"
	"strings"
)

// The attributes of an address. Locate of [DB], [Table] and [Layers] takes them
// with or without "ATTRIBUTE_" in front.
const (
	CountryCode      = "COUNTRY_CODE"      // ISO 3166-1 alpha-2, in upper case
	CountryName      = "COUNTRY_NAME"      // in English, like all names
	ContinentCode    = "CONTINENT_CODE"    // two letters
	ContinentName    = "CONTINENT_NAME"    // such as "Europe"
	RegionName       = "REGION_NAME"       // the largest subdivision of the country
	CityName         = "CITY_NAME"         // such as "Boxford"
	ISPName          = "ISP_NAME"          // the provider that connects the address
	OrganizationName = "ORGANIZATION_NAME" // the organization that uses it
	ASNumber         = "AS_NUMBER"         // of the autonomous system, in decimal digits, such as "64500"
	ASName           = "AS_NAME"           // of the organization that runs the autonomous system
	Custom1          = "CUSTOM_1"          // the column of that name in a Table
	Custom2          = "CUSTOM_2"          // see Custom1
	Custom3          = "CUSTOM_3"          // see Custom1
	Custom4          = "CUSTOM_4"          // see Custom1
	Custom5          = "CUSTOM_5"          // see Custom1
	Custom6          = "CUSTOM_6"          // see Custom1
	Custom7          = "CUSTOM_7"          // see Custom1
)

// attribute is the index of a value in a row.
type attribute uint8

var attributeNames = [...]string{
	CountryCode, CountryName, ContinentCode, ContinentName, RegionName, CityName, ISPName, OrganizationName, ASNumber, ASName,
	Custom1, Custom2, Custom3, Custom4, Custom5, Custom6, Custom7,
}

// The attributes that the code names.
const (
	countryCode attribute = iota
	countryName
	continentCode
	continentName
	regionName
	cityName
	ispName
	organizationName
	asNumber
	asName
)

var attributes = func() map[string]attribute {
	byName := make(map[string]attribute)
	for i, name := range attributeNames {
		byName[name] = attribute(i)
	}
	return byName
}()

// attributeOf returns the attribute of a name; the empty name means the country
// code.
func attributeOf(name string) (attribute, bool) {
	if name == "" {
		return countryCode, true
	}
	a, ok := attributes[strings.TrimPrefix(name, "ATTRIBUTE_")]
	return a, ok
}

// upperCode returns the code of a country in upper case.
func upperCode(code string) (string, error) {
	upper := strings.ToUpper(code)
	if len(upper) != 2 || strings.Trim(upper, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "", fmt.Errorf("country code %q is not two letters", code)
	}
	return upper, nil
}

// parseASN converts an attribute to a number.
func parseASN(text string, ok bool) (number uint32, found bool) {
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil
}

// A row has the attributes of an address: for each, the index of its text.
type row [len(attributeNames)]uint32

// rows are the rows of a database or a table. Equal rows and equal texts are
// stored once.
type rows struct {
	rows []row
	text []string // text[0] is empty: unknown
	has  [len(attributeNames)]bool
}

func (r *rows) value(i uint32, a attribute) (string, bool) {
	text := r.rows[i][a]
	return r.text[text], text != 0
}

// rowBuilder collects rows.
type rowBuilder struct {
	rows
	byText map[string]uint32
	byRow  map[row]uint32
}

func newRowBuilder() *rowBuilder {
	return &rowBuilder{
		rows:   rows{text: []string{""}},
		byText: map[string]uint32{"": 0},
		byRow:  make(map[row]uint32),
	}
}

// set sets a value of a row.
func (b *rowBuilder) set(r *row, a attribute, value string) {
	i, ok := b.byText[value]
	if !ok {
		i = uint32(len(b.text))
		value = strings.Clone(value) // value may be part of a large text
		b.text = append(b.text, value)
		b.byText[value] = i
	}
	r[a] = i
	b.has[a] = b.has[a] || i != 0
}

// add returns the index of a row.
func (b *rowBuilder) add(r row) uint32 {
	i, ok := b.byRow[r]
	if !ok {
		i = uint32(len(b.rows.rows))
		b.rows.rows = append(b.rows.rows, r)
		b.byRow[r] = i
	}
	return i
}
