// Package procmem finds how much memory the process may fill.
package procmem

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Bytes returns how many bytes the process may fill with what it needs: its own
// limit (GOMEMLIMIT) if there is one. Without one, the collector lets the heap
// grow by GOGC percent of what is alive, so that garbage has to fit as well:
// with 100, half of the memory of the machine or, if that is less, of what its
// control groups allow. If that is unknown, the machine is taken to have 4 GiB.
func Bytes() int64 {
	gogc := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(gogc)
	return bytesOf(debug.SetMemoryLimit(-1), gogc[0].Value.Uint64(), os.DirFS("/"))
}

// bytesOf is Bytes for a limit and a percentage, and with the files below root.
func bytesOf(limit int64, gogc uint64, root fs.FS) int64 {
	if limit != math.MaxInt64 {
		return limit
	}
	if gogc > math.MaxInt32 { // off: there is no right value
		gogc = 100
	}
	return int64(float64(available(root)) / (1 + float64(gogc)/100))
}

// available returns the memory of the machine or of its control groups.
func available(root fs.FS) int64 {
	memory := int64(math.MaxInt64)
	for _, n := range []int64{machineMemory(root), containerMemory(root)} {
		if n > 0 {
			memory = min(memory, n)
		}
	}
	if memory == math.MaxInt64 {
		return unknown
	}
	return memory
}

// unknown is what a machine is taken to have that does not report it.
const unknown = 4 << 30

// machineMemory reads the first line of /proc/meminfo: "MemTotal: 16384 kB".
func machineMemory(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// containerMemory returns the least limit of the control groups that the
// process is in, of either version; 0 if there is none. In a container, the
// paths may be those of the machine, where only the root can be seen.
func containerMemory(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var mounts []string
		file := "memory.max"
		switch {
		case f[1] == "":
			mounts = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
		case strings.Contains(","+f[1]+",", ",memory,"):
			mounts, file = []string{"sys/fs/cgroup/memory"}, "memory.limit_in_bytes"
		}
		for _, mount := range mounts {
			for group := path.Clean("/" + f[2]); ; group = path.Dir(group) {
				text, err := fs.ReadFile(root, path.Join(mount, group, file))
				if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil && n > 0 {
					least = min(least, n)
				}
				if group == "/" {
					break
				}
			}
		}
	}
	if least >= 1<<60 { // which is how version 1 writes "no limit"
		return 0
	}
	return least
}
