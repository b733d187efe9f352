package geoip

import (
	"strconv"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Databases have one of two layouts. The nested one is that of MaxMind, DB-IP
// and others. In the flat one, of small databases made from public registries,
// a country_code is beside few other fields.
type (
	nestedRecord struct {
		Country           nestedLocation   `maxminddb:"country"`
		RegisteredCountry nestedLocation   `maxminddb:"registered_country"`
		Continent         nestedLocation   `maxminddb:"continent"`
		Subdivisions      []nestedLocation `maxminddb:"subdivisions"` // the largest comes first
		City              nestedLocation   `maxminddb:"city"`
		networkRecord
	}
	nestedLocation struct {
		Code  string `maxminddb:"iso_code"`
		Short string `maxminddb:"code"` // of a continent
		Names struct {
			English string `maxminddb:"en"`
		} `maxminddb:"names"`
	}
	flatRecord struct {
		CountryCode string `maxminddb:"country_code"`
		Region      string `maxminddb:"state1"`
		City        string `maxminddb:"city"`
		networkRecord
	}
	networkRecord struct {
		ASNumber     uint32 `maxminddb:"autonomous_system_number"`
		ASName       string `maxminddb:"autonomous_system_organization"`
		ISP          string `maxminddb:"isp"`
		Organization string `maxminddb:"organization"`
	}
)

// decode returns the row of a record. A field of the wrong type is an error;
// fields without a name here are ignored.
func (b *rowBuilder) decode(record maxminddb.Result) (r row, err error) {
	var nested nestedRecord
	nestedErr := record.Decode(&nested)
	if nestedErr == nil {
		if r, err = b.nested(&nested); err != nil || r != (row{}) {
			return r, err
		}
	}
	var flat flatRecord
	if err := record.Decode(&flat); err != nil {
		if nestedErr != nil {
			return row{}, nestedErr
		}
		return row{}, err
	}
	if r, err = b.flat(&flat); err == nil && r == (row{}) {
		err = nestedErr
	}
	return r, err
}

func (b *rowBuilder) nested(record *nestedRecord) (r row, err error) {
	country := &record.Country
	if country.Code == "" {
		country = &record.RegisteredCountry
	}
	if err := b.setCountry(&r, country.Code); err != nil {
		return row{}, err
	}
	b.set(&r, countryName, country.Names.English)
	b.set(&r, continentCode, record.Continent.Short)
	b.set(&r, continentName, record.Continent.Names.English)
	if len(record.Subdivisions) > 0 {
		b.set(&r, regionName, record.Subdivisions[0].Names.English)
	}
	b.set(&r, cityName, record.City.Names.English)
	b.network(&r, &record.networkRecord)
	return r, nil
}

func (b *rowBuilder) flat(record *flatRecord) (r row, err error) {
	if err := b.setCountry(&r, record.CountryCode); err != nil {
		return row{}, err
	}
	b.set(&r, regionName, record.Region)
	b.set(&r, cityName, record.City)
	b.network(&r, &record.networkRecord)
	return r, nil
}

func (b *rowBuilder) setCountry(r *row, code string) error {
	if code == "" {
		return nil
	}
	upper, err := upperCode(code)
	if err == nil {
		b.set(r, countryCode, upper)
	}
	return err
}

func (b *rowBuilder) network(r *row, record *networkRecord) {
	b.set(r, ispName, record.ISP)
	b.set(r, organizationName, record.Organization)
	if record.ASNumber != 0 {
		b.set(r, asNumber, strconv.FormatUint(uint64(record.ASNumber), 10))
	}
	b.set(r, asName, record.ASName)
}
