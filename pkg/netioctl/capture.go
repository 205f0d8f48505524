// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// captureFlags are what to capture and where to.
type captureFlags struct {
	file       string
	snapLength uint32
	count      uint64
}

func (a *app) captureCommand() *cobra.Command {
	var flags captureFlags
	cmd := &cobra.Command{
		Use:   "capture PORT",
		Short: "Capture the packets of a port, whole, both directions",
		Long: `Capture the packets of a port, whole and in both directions, until interrupted.
They are shown one a line, or written with -w as a pcap file, with nanoseconds,
that tcpdump and Wireshark read; "-w -" writes it to the standard output.
Capturing never slows forwarding: what comes too fast is left out, and counted.
Large packets of senders that leave segmentation to the device are captured as
they cross it, up to 64 KiB.`,
		Example: `  netioctl capture default/web
  netioctl capture default/web -w web.pcap --count 1000
  netioctl capture default/web -w - | tcpdump -nr -
  netioctl capture default/web -w - | wireshark -ki -`,
		Args:              arguments(1, 1, "one port's name"),
		ValidArgsFunction: first(a.completePorts),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case flags.file != "" && a.format != formatTable:
				return usagef("-w writes a pcap file, -o %s does not; give one of them", a.format.String())
			case flags.file == "-" && a.terminal:
				return usagef("-w - would write a pcap file to the terminal; pipe it into something, such as: tcpdump -nr -")
			}
			return a.capture(cmd.Context(), args[0], flags)
		},
	}
	s := cmd.Flags()
	s.StringVarP(&flags.file, "write", "w", "", `pcap file to write; "-": the standard output`)
	s.Uint32Var(&flags.snapLength, "snap-length", 0, "bytes to take of each packet; 0: all")
	s.Uint64Var(&flags.count, "count", 0, "end after this many packets; 0: do not")
	for _, name := range []string{"snap-length", "count"} {
		flagCompletion(cmd, name, cobra.NoFileCompletions)
	}
	return cmd
}

// packetSink is where captured packets go.
type packetSink interface {
	write(*dataplanev1.CapturedPacket) error
	// flush is called when there is nothing to write for now.
	flush() error
}

func (a *app) capture(ctx context.Context, port string, flags captureFlags) (err error) {
	fw, err := a.forwarder()
	if err != nil {
		return err
	}
	defer fw.Close()
	name, err := a.portName(ctx, fw, port)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := fw.Capture(ctx, &dataplanev1.CaptureRequest{Port: name, SnapLength: flags.snapLength})
	if err != nil {
		return err
	}
	// The header tells that the capture has begun; without one there is an error.
	if md, err := stream.Header(); err != nil || md == nil {
		if _, err = stream.Recv(); ended(ctx, err) {
			return nil
		}
		return err
	}
	a.note("capturing on port %s", name)
	var sink packetSink = &lineSink{a}
	if flags.file != "" {
		out := a.out
		if flags.file != "-" {
			// Packets are nobody else's business.
			f, err := os.OpenFile(flags.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			if err != nil {
				return fmt.Errorf("write capture: %w", err)
			}
			defer func() {
				if e := f.Close(); e != nil && err == nil {
					err = fmt.Errorf("write capture: %w", e)
				}
			}()
			out = f
		}
		if sink, err = newPcapSink(out, flags.snapLength); err != nil {
			return err
		}
	}
	shown, lost, err := drain(ctx, cancel, stream.Recv, sink, flags.count)
	summary := plural(shown, "packet") + " captured"
	if lost > 0 {
		summary += fmt.Sprintf(", %s came too fast and were left out; take less of each with --snap-length", plural(lost, "packet"))
	}
	a.note("%s", summary)
	return err
}

// drain moves packets from the stream to the sink, which is flushed when the
// stream pauses. It returns how many there were and how many were lost.
func drain(ctx context.Context, cancel func(), recv func() (*dataplanev1.CapturedPacket, error), sink packetSink, limit uint64) (shown, lost uint64, err error) {
	type received struct {
		packet *dataplanev1.CapturedPacket
		err    error
	}
	packets := make(chan received, 64)
	stop := make(chan struct{})
	defer func() {
		close(stop)
		cancel()
	}()
	go func() {
		for {
			p, err := recv()
			select {
			case packets <- received{p, err}:
			case <-stop:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for limit == 0 || shown < limit {
		var r received
		select {
		case r = <-packets:
		default:
			if err := sink.flush(); err != nil {
				return shown, lost, err
			}
			r = <-packets
		}
		if ended(ctx, r.err) {
			break
		} else if r.err != nil {
			return shown, lost, errors.Join(r.err, sink.flush())
		}
		lost += r.packet.GetLost()
		if r.packet.GetLength() == 0 && len(r.packet.GetData()) == 0 {
			continue // tells only of a loss
		}
		if err := sink.write(r.packet); err != nil {
			return shown, lost, err
		}
		shown++
	}
	return shown, lost, sink.flush()
}
