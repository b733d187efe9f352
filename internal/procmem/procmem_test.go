package procmem

import (
	"math"
	"testing"
	"testing/fstest"
)

// Without GOMEMLIMIT, what the machine has was not asked for: 500 hostile
// scripts at a time took 3.9 GB of it. Then three quarters of it were filled,
// and with the garbage that the collector leaves that was more than there is.
func TestBytes(t *testing.T) {
	const none = math.MaxInt64
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	meminfo := file("MemTotal:       16384000 kB\nMemFree:         1000 kB\n")
	for _, tt := range []struct {
		name  string
		limit int64
		gogc  uint64
		files fstest.MapFS
		want  int64
	}{
		{"GOMEMLIMIT", 1 << 30, 100, fstest.MapFS{"proc/meminfo": meminfo}, 1 << 30},
		{"machine", none, 100, fstest.MapFS{"proc/meminfo": meminfo}, 16384000 << 9},
		{"GOGC=400", none, 400, fstest.MapFS{"proc/meminfo": meminfo}, 16384000 << 10 / 5},
		{"GOGC=0", none, 0, fstest.MapFS{"proc/meminfo": meminfo}, 16384000 << 10},
		{"GOGC=off", none, math.MaxUint64, fstest.MapFS{"proc/meminfo": meminfo}, 16384000 << 9},
		{"GOGC=off and GOMEMLIMIT", 1 << 30, math.MaxUint64, fstest.MapFS{"proc/meminfo": meminfo}, 1 << 30},
		{"no Linux", none, 100, fstest.MapFS{}, unknown / 2},
		{"odd files", none, 100, fstest.MapFS{"proc/meminfo": file("MemTotal: much\n"), "proc/self/cgroup": file("what\n0::/x\n"), "sys/fs/cgroup/x/memory.max": file("?")}, unknown / 2},
		{"group, version 2", none, 100, fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/system.slice/limpet.service\n"),
			"sys/fs/cgroup/system.slice/limpet.service/memory.max": file("536870912\n"),
			"sys/fs/cgroup/system.slice/memory.max":                file("max\n"),
		}, 256 << 20},
		{"group above, version 2", none, 100, fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a/b/c\n"),
			"sys/fs/cgroup/a/b/c/memory.max": file("max\n"), "sys/fs/cgroup/a/memory.max": file("268435456\n"),
		}, 128 << 20},
		{"container, version 2", none, 100, fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("1073741824\n"),
		}, 512 << 20},
		{"no limit, version 2", none, 100, fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("max\n"),
		}, 16384000 << 9},
		{"group, version 1", none, 100, fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("8:pids:/x\n4:cpu,memory:/docker/1a\n0::/\n"),
			"sys/fs/cgroup/memory/docker/1a/memory.limit_in_bytes": file("536870912\n"),
		}, 256 << 20},
		{"container, version 1: the path is the machine's", none, 100, fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("4:memory:/docker/1a\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("536870912\n"),
		}, 256 << 20},
		{"no limit, version 1", none, 100, fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("4:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 16384000 << 9},
		{"more than the machine has", none, 100, fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("99999999999999\n"),
		}, 16384000 << 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := bytesOf(tt.limit, tt.gogc, tt.files); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
