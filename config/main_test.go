package config

import (
	"flag"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/limpetlb/limpet/internal/testfiles"
	"github.com/limpetlb/limpet/internal/testleak"
)

// TestMain runs more tests at a time than there are processors, because those
// that are parallel mostly wait. The flag -parallel still applies.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	flag.Parse()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: dialNameServer}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(testleak.RedisClient))
}

// shopFiles are a configuration with something of everything, and what it
// names.
var shopFiles = testfiles.MustRead("testdata/shop/*")

var shop = shopFiles["shop.yaml"]

const placesTable = "prefix; country code; custom 1\n198.51.100.0/24; NL; office\n203.0.113.0/24; AQ; lab\n"

// loaded loads a file of a directory with these files. The directory's name is
// DIR in the text of the error, which is empty if there is none.
func loaded(t *testing.T, files map[string]string, name string) (*File, string) {
	t.Helper()
	dir := testfiles.Write(t, files)
	f, err := Load(t.Context(), filepath.Join(dir, name))
	if err != nil {
		return nil, strings.ReplaceAll(err.Error(), dir, "DIR")
	}
	return f, ""
}

// decoded reads a text, as a file of the name "text", without making anything
// of it.
func decoded(t *testing.T, text string) (*document, error) {
	t.Helper()
	d, doc := newDecoder(t.Context(), &fsFiles{fs: fstest.MapFS{"text": {}}}), &document{}
	if err := d.decode(&source{name: "text", dir: "."}, []byte(text), doc); err != nil {
		t.Fatal(err)
	}
	return doc, d.join(d.hidden)
}

// rewrite writes the file limpet.yaml of a runtime anew, and updates the
// runtime.
func rewrite(t *testing.T, rt *Runtime, dir, text string) (Changes, error) {
	t.Helper()
	path := filepath.Join(dir, "limpet.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return rt.Update(f)
}
