// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// pcapWhole is the snapshot length of files with whole packets: tcpdump's own,
// and more than any packet has.
const pcapWhole = 262144

// pcapSink writes a pcap file with nanoseconds and LINKTYPE_RAW: packets begin
// with the IP header (draft-ietf-opsawg-pcap).
type pcapSink struct {
	buf *bufio.Writer
	w   *pcapgo.Writer
}

func newPcapSink(w io.Writer, snapLength uint32) (*pcapSink, error) {
	if snapLength == 0 {
		snapLength = pcapWhole
	}
	buf := bufio.NewWriterSize(w, 64<<10)
	s := &pcapSink{buf, pcapgo.NewWriterNanos(buf)}
	if err := s.w.WriteFileHeader(snapLength, layers.LinkTypeRaw); err != nil {
		return nil, fmt.Errorf("write capture: %w", err)
	}
	return s, s.flush()
}

func (s *pcapSink) write(p *dataplanev1.CapturedPacket) error {
	err := s.w.WritePacket(gopacket.CaptureInfo{
		Timestamp:     time.Unix(0, p.GetTimeUnixNano()),
		CaptureLength: len(p.GetData()),
		// pcap has no packet that is shorter than what was taken of it.
		Length: max(int(p.GetLength()), len(p.GetData())),
	}, p.GetData())
	if err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

func (s *pcapSink) flush() error {
	if err := s.buf.Flush(); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}
