// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const include = "../../../../kmod/include/uapi"

// TestHeader compiles the C header and compares what the compiler says of it
// with the Go mirror.
func TestHeader(t *testing.T) {
	if _, err := os.Stat(include); err != nil {
		t.Skip("not in the source tree, but in a virtual machine: ", err)
	}
	var prog, want strings.Builder
	prog.WriteString("#include <linux/netio.h>\n#include <linux/if_link.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n")
	for _, c := range []struct {
		name string
		v    uint64
	}{
		{"NETIO_ATTACH_TAKEOVER", attachTakeOver}, {"NETIO_ATTACH_EXISTING", attachExisting}, {"NETIO_ATTACH_JOIN", attachJoin},
		{"NETIO_LABEL_MAX", labelMax},
		{"NETIO_IOC_ATTACH", uint64(iocAttach)}, {"NETIO_IOC_KICK", uint64(iocKick)}, {"NETIO_IOC_SET_PORT", uint64(iocSetPort)},
		{"NETIO_IOC_DESTROY", uint64(iocDestroy)}, {"NETIO_IOC_SELECT_LANE", uint64(iocSelectLane)},
		{"NETIO_IOC_GET_PORT", uint64(iocGetPort)}, {"NETIO_IOC_DEL_PORT", uint64(iocDelPort)},
		{"NETIO_IOC_ADD_NIC", uint64(iocAddNIC)}, {"NETIO_IOC_STEER", uint64(iocSteer)},
		{"IFLA_KNET_INSTANCE", knetInstance}, {"IFLA_KNET_QUOTA", knetQuota}, {"IFLA_KNET_FLAGS", knetFlags}, {"IFLA_KNET_LABEL", knetLabel},
	} {
		fmt.Fprintf(&prog, "printf(\"%s %%llu\\n\", (unsigned long long)%s);\n", c.name, c.name)
		fmt.Fprintf(&want, "%s %d\n", c.name, c.v)
	}
	prog.WriteString("printf(\"kind %s\\n\", NETIO_KNET_KIND);\n")
	fmt.Fprintf(&want, "kind %s\n", knetKind)
	for name, typ := range map[string]reflect.Type{
		"netio_attach":   reflect.TypeFor[attach](),
		"netio_set_port": reflect.TypeFor[setPort](),
		"netio_get_port": reflect.TypeFor[getPort](),
		"netio_add_nic":  reflect.TypeFor[addNIC](), "netio_prefix": reflect.TypeFor[prefix](),
		"netio_steer_nic": reflect.TypeFor[steerNIC](),
	} {
		fmt.Fprintf(&prog, "printf(\"%s %%zu\\n\", sizeof(struct %s));\n", name, name)
		fmt.Fprintf(&want, "%s %d\n", name, typ.Size())
		for i := range typ.NumField() {
			f := typ.Field(i)
			c := fields[f.Name]
			fmt.Fprintf(&prog, "printf(\"%s.%s %%zu %%zu\\n\", offsetof(struct %s, %s), sizeof(((struct %s *)0)->%s));\n", name, c, name, c, name, c)
			fmt.Fprintf(&want, "%s.%s %d %d\n", name, c, f.Offset, f.Type.Size())
		}
	}
	prog.WriteString("return 0; }\n")
	exe := filepath.Join(t.TempDir(), "uapi")
	cc := exec.Command("cc", "-std=gnu99", "-Wall", "-Wextra", "-Werror", "-I"+include, "-x", "c", "-o", exe, "-")
	cc.Stdin = strings.NewReader(prog.String())
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("compile netio.h (a C compiler is needed): %v\n%s", err, out)
	}
	got, err := exec.Command(exe).Output()
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(want.String(), "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			t.Errorf("header says %q, Go says %q", gotLines[i], wantLines[i])
		}
	}
}

// fields has the C name of each field.
var fields = map[string]string{
	"ABIVersion": "abi_version", "Flags": "flags", "Name": "name", "Lanes": "lanes", "NbufCount": "nbuf_count",
	"PortMax": "port_max", "ParkedMax": "parked_max", "AreaSize": "area_size", "Epoch": "epoch",
	"Port": "port", "NbufQuota": "nbuf_quota", "MarkBytes": "mark_bytes", "IfIndex": "ifindex", "State": "state",
	"MTU": "mtu", "Generation": "generation", "IfName": "ifname", "Label": "label",
	"Addr": "addr", "Family": "family", "Len": "len", "Reserved": "reserved", "Op": "op", "Count": "count", "Prefixes": "prefixes",
}
