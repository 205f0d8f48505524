// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unsafe"
)

const header = "../../../kmod/include/uapi/linux/netio.h"

// constants names every constant of the header that has a Go mirror.
var constants = map[string]uint64{
	"NETIO_MAGIC": Magic, "NETIO_ABI_MAJOR": Major, "NETIO_ABI_MINOR": Minor,
	"NETIO_ABI_VERSION": Version, "NETIO_PAGE_SIZE": PageSize, "NETIO_NAME_MAX": NameMax,
	"NETIO_LANES_MAX": LanesMax, "NETIO_PORTS_MAX": PortsMax, "NETIO_NBUFS_MAX": NbufsMax,
	"NETIO_PORT_NONE": PortNone, "NETIO_EVENT_SLOTS": EventSlots,
	"NETIO_ENT_TOGGLE": EntToggle, "NETIO_ENT_MORE": EntMore,
	"NETIO_ENT_ACTION_SHIFT": EntActionShift, "NETIO_ENT_ACTION_MASK": EntActionMask,
	"NETIO_ENT_PARAM_MASK": EntParamMask,
	"NETIO_IN_NONE":        InNone, "NETIO_IN_RX": InRX, "NETIO_IN_GRANT": InGrant, "NETIO_IN_PORT": InPort,
	"NETIO_IN_QOS": InQoS, "NETIO_IN_DROPS": InDrops, "NETIO_IN_FETCHED": InFetched,
	"NETIO_IN_OWNER": InOwner, "NETIO_IN_DENIED": InDenied,
	"NETIO_OUT_NONE": OutNone, "NETIO_OUT_TX": OutTX, "NETIO_OUT_CLONE": OutClone,
	"NETIO_OUT_FREE": OutFree, "NETIO_OUT_WANT": OutWant, "NETIO_OUT_FETCH": OutFetch,
	"NETIO_NBUF_SIZE": NbufSize, "NETIO_NBUF_HDR": NbufHdr, "NETIO_HEADROOM": Headroom,
	"NETIO_NBUF_DATA": NbufData, "NETIO_NBUF_ROOM": NbufRoom, "NETIO_NBUF_FILL": NbufFill, "NETIO_PARK_COPY_MIN": ParkCopyMin,
	"NETIO_PARK_COPY_UDP": ParkCopyUDP, "NETIO_ENCAP_MAX": EncapMax,
	"NETIO_SCRATCH_WORDS":   ScratchWords,
	"NETIO_NB_CSUM_PARTIAL": NbCsumPartial, "NETIO_NB_CSUM_VALID": NbCsumValid,
	"NETIO_NB_PARKED": NbParked, "NETIO_NB_DIRTY": NbDirty, "NETIO_NB_HASH": NbHash,
	"NETIO_GSO_NONE": GSONone, "NETIO_GSO_TCPV4": GSOTCPv4, "NETIO_GSO_TCPV6": GSOTCPv6,
	"NETIO_GSO_UDP_L4": GSOUDPL4, "NETIO_GSO_ECN": GSOECN,
	"NETIO_DEV_KERNEL": DevKernel, "NETIO_DEV_SOFT": DevSoft,
	"NETIO_F_PARK": FeatPark, "NETIO_F_GSO": FeatGSO, "NETIO_F_CSUM": FeatCsum,
	"NETIO_F_QOS": FeatQoS, "NETIO_F_WHOLE": FeatWhole, "NETIO_F_SELF_SERVICE": FeatSelfService,
	"NETIO_F_TUNNEL":       FeatTunnel,
	"NETIO_PORT_S_PRESENT": PortPresent, "NETIO_PORT_S_UP": PortUp,
	"NETIO_PORT_S_CONGESTED": PortCongested, "NETIO_PORT_S_NIC": PortNIC, "NETIO_PORT_F_WHOLE": PortFlagWhole,
	"NETIO_STEER_REPLACE": SteerReplace, "NETIO_STEER_ADD": SteerAdd, "NETIO_STEER_REMOVE": SteerRemove, "NETIO_STEER_MAX": SteerMax,
}

// kernelOnly are constants of the kernel device's ioctls and netlink, which
// only its Go package uses.
var kernelOnly = regexp.MustCompile(`^NETIO_(ATTACH_|IOC_|LABEL_MAX|KNET_KIND|TOGGLE)`)

var structs = map[string]reflect.Type{
	"netio_nbuf":  reflect.TypeFor[Nbuf](),
	"netio_area":  reflect.TypeFor[AreaHeader](),
	"netio_dlane": reflect.TypeFor[DLane](),
	"netio_plane": reflect.TypeFor[PLane](),
	"netio_port":  reflect.TypeFor[Port](),
}

// TestHeader compiles the C header and compares what the compiler says of it
// with the Go mirror.
func TestHeader(t *testing.T) {
	src, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	var prog, want strings.Builder
	prog.WriteString("#include <linux/netio.h>\n#include <stddef.h>\n#include <stdio.h>\n#define C(x) printf(\"%s %llu\\n\", #x, (unsigned long long)(x));\n" +
		"#define F(s, f) printf(\"%s.%s %zu %zu\\n\", #s, #f, offsetof(struct s, f), sizeof(((struct s *)0)->f));\n" +
		"#define S(s) printf(\"%s %zu\\n\", #s, sizeof(struct s));\nint main(void) {\n")

	names := regexp.MustCompile(`(?m)^(?:#define\s+|\t)(NETIO_[A-Z0-9_]+)\b`).FindAllStringSubmatch(string(src), -1)
	seen := map[string]bool{}
	for _, m := range names {
		if seen[m[1]] || kernelOnly.MatchString(m[1]) {
			continue
		}
		seen[m[1]] = true
		v, ok := constants[m[1]]
		if !ok {
			t.Errorf("%s of the header has no Go mirror", m[1])
			continue
		}
		fmt.Fprintf(&prog, "C(%s)\n", m[1])
		fmt.Fprintf(&want, "%s %d\n", m[1], v)
	}
	for name := range constants {
		if !seen[name] {
			t.Errorf("%s is not in the header", name)
		}
	}

	for _, m := range regexp.MustCompile(`(?ms)^struct (netio_(?:nbuf|area|dlane|plane|port)) \{(.*?)^\};`).FindAllStringSubmatch(string(src), -1) {
		typ := structs[m[1]]
		fmt.Fprintf(&prog, "S(%s)\n", m[1])
		fmt.Fprintf(&want, "%s %d\n", m[1], typ.Size())
		fields := regexp.MustCompile(`(?m)^\t(?:__u\d+|char)\s+(\w+)`).FindAllStringSubmatch(m[2], -1)
		if len(fields) != typ.NumField() {
			t.Errorf("struct %s: %d fields in the header, %d in Go", m[1], len(fields), typ.NumField())
			continue
		}
		for i, f := range fields {
			g := typ.Field(i)
			if norm(g.Name) != norm(f[1]) && g.Name != "_" {
				t.Errorf("struct %s: field %d is %s in the header, %s in Go", m[1], i, f[1], g.Name)
			}
			fmt.Fprintf(&prog, "F(%s, %s)\n", m[1], f[1])
			fmt.Fprintf(&want, "%s.%s %d %d\n", m[1], f[1], g.Offset, g.Type.Size())
		}
	}
	prog.WriteString("return 0; }\n")

	exe := filepath.Join(t.TempDir(), "abi")
	cc := exec.Command("cc", "-std=gnu99", "-Wall", "-Wextra", "-Wpadded", "-Werror",
		"-I"+filepath.Join(filepath.Dir(header), ".."), "-x", "c", "-o", exe, "-")
	cc.Stdin = strings.NewReader(prog.String())
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("compile netio.h (a C compiler is needed): %v\n%s", err, out)
	}
	got, err := exec.Command(exe).Output()
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := bytes.Split(got, []byte("\n")), strings.Split(want.String(), "\n")
	for i := range gotLines {
		if i >= len(wantLines) || string(gotLines[i]) != wantLines[i] {
			t.Errorf("header says %q, Go says %q", gotLines[i], wantLines[i])
		}
	}
}

func norm(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }

// TestLayout checks that no page has two writers and that regions do not overlap.
func TestLayout(t *testing.T) {
	for _, g := range []Geometry{
		{Lanes: 1, NbufCount: 1, PortMax: 2},
		{Lanes: 1, NbufCount: 8192, PortMax: 16384},
		{Lanes: 3, NbufCount: 1000, PortMax: 100},
		{Lanes: LanesMax, NbufCount: 65536, PortMax: 65536},
	} {
		h, err := Layout(g)
		if err != nil {
			t.Fatal(err)
		}
		offs := []uint64{0, h.DLaneOff, h.InqOff, h.PortOff, h.PLaneOff, h.OutqOff, h.NbufOff, h.AreaSize}
		for i, off := range offs {
			if off%PageSize != 0 || i > 0 && off <= offs[i-1] {
				t.Errorf("%+v: region %d begins at %d after %v", g, i, off, offs)
			}
		}
		if 1<<h.InqOrder < g.NbufCount+EventSlots {
			t.Errorf("%+v: InQ of %d entries can overflow", g, 1<<h.InqOrder)
		}
		if unsafe.Sizeof(DLane{}) > PageSize || unsafe.Sizeof(PLane{}) > PageSize {
			t.Error("a lane's page is larger than a page")
		}
		mem := make([]byte, h.AreaSize)
		*(*AreaHeader)(unsafe.Pointer(&mem[0])) = h
		a, err := OpenArea(mem)
		if err != nil {
			t.Fatal(err)
		}
		last := a.NbufBytes(a.NbufCount() - 1)
		if end := uintptr(unsafe.Pointer(&last[NbufSize-1])) - uintptr(unsafe.Pointer(&mem[0])); uint64(end) >= h.AreaSize {
			t.Errorf("%+v: last nbuf ends at %d of %d", g, end, h.AreaSize)
		}
	}
}

func TestOpenAreaRefuses(t *testing.T) {
	good, err := Layout(Geometry{Lanes: 1, NbufCount: 64, PortMax: 16})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		mutate func(*AreaHeader)
		want   string
	}{
		"magic":         {func(h *AreaHeader) { h.Magic = 7 }, "magic 0x7"},
		"major version": {func(h *AreaHeader) { h.ABIVersion = 2 << 16 }, "device has 2.0, this process needs 1.1"},
		"lanes":         {func(h *AreaHeader) { h.Lanes = 65 }, "65 lanes"},
		"nbufs":         {func(h *AreaHeader) { h.NbufCount = 1 << 25 }, "nbufs"},
		"ports":         {func(h *AreaHeader) { h.PortMax = 0 }, "0 ports"},
		"offset":        {func(h *AreaHeader) { h.NbufOff += 8 }, "nbuf_off"},
		"order":         {func(h *AreaHeader) { h.InqOrder = 31 }, "inq_order"},
		"more nbufs":    {func(h *AreaHeader) { h.NbufCount = 4096 }, "order"},
	} {
		t.Run(name, func(t *testing.T) {
			h := good
			tc.mutate(&h)
			mem := make([]byte, good.AreaSize)
			*(*AreaHeader)(unsafe.Pointer(&mem[0])) = h
			if _, err := OpenArea(mem); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	if _, err := OpenArea(make([]byte, 100)); err == nil {
		t.Error("an area of 100 bytes was opened")
	}
}

func FuzzOpenArea(f *testing.F) {
	good, _ := Layout(Geometry{Lanes: 2, NbufCount: 16, PortMax: 16})
	f.Add((*[unsafe.Sizeof(AreaHeader{})]byte)(unsafe.Pointer(&good))[:], uint32(good.AreaSize))
	f.Fuzz(func(t *testing.T, hdr []byte, size uint32) {
		mem := make([]byte, size%(1<<21))
		copy(mem, hdr)
		a, err := OpenArea(mem)
		if err != nil {
			return
		}
		h := a.Header()
		for l := range int(h.Lanes) {
			a.DLane(l).Copied, a.PLane(l).DeadMS = 1, 1
			in, out := a.InQ(l), a.OutQ(l)
			in[len(in)-1], out[len(out)-1] = 1, 1
		}
		a.Port(h.PortMax - 1).Reserved = 1
		a.NbufBytes(h.NbufCount - 1)[NbufSize-1] = 1
	})
}
