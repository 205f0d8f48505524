// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// explainFlags are what SRC and DST:PORT do not say.
type explainFlags struct {
	icmpType, icmpCode int // -1: not given
	sourcePort         uint16
	only4, only6       bool
}

func (a *app) explainCommand() *cobra.Command {
	var flags explainFlags
	cmd := &cobra.Command{
		Use:   "explain SRC DST:PORT[/PROTOCOL]",
		Short: "Tell what would become of a packet, and which rule decides",
		Long: `Tell what would become of the first packet of a connection, stage by stage,
and which rule decides. Nothing is sent.

SRC and DST are namespace/name of a pod, a name that only one pod has, a port's
name, or an address; IPv6 addresses as [fd00::1]:80. PROTOCOL is tcp unless
given: udp or sctp. DST:icmp is an echo request; --icmp-type asks for another
message.

Exits with 3 if the packet would not get through.`,
		Example: `  netioctl policy explain default/client default/web:80
  netioctl policy explain client 10.96.0.10:53/udp
  netioctl policy explain client '[fd00::1]:443'
  netioctl policy explain client web:icmp
  netioctl policy explain client web --icmp-type 3 --icmp-code 4`,
		Args:              arguments(2, 2, "SRC and DST:PORT"),
		ValidArgsFunction: a.completeExplain,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(cmd.Context(), args[0], args[1], flags)
		},
	}
	packetFlags(cmd, &flags)
	return cmd
}

// packetFlags are the flags of what asks about a packet.
func packetFlags(cmd *cobra.Command, flags *explainFlags) {
	s := cmd.Flags()
	s.IntVar(&flags.icmpType, "icmp-type", -1, "ICMP type, 0 to 255")
	s.IntVar(&flags.icmpCode, "icmp-code", -1, "ICMP code, 0 to 255")
	s.Uint16Var(&flags.sourcePort, "source-port", 0, "source port; 0: any")
	s.BoolVarP(&flags.only4, "ipv4", "4", false, "take the IPv4 addresses of names")
	s.BoolVarP(&flags.only6, "ipv6", "6", false, "take the IPv6 addresses of names")
	for _, name := range []string{"icmp-type", "icmp-code", "source-port"} {
		flagCompletion(cmd, name, cobra.NoFileCompletions)
	}
}

// question is what policy explain has been asked, before names are looked up.
type question struct {
	source             string
	target             target
	icmpType, icmpCode uint32
	family             int // 4, 6, or 0 for either
	echo               bool
}

// parseQuestion reads the arguments; its errors are about usage.
func parseQuestion(src, dst string, flags explainFlags) (question, error) {
	var q question
	var err error
	if q.source, err = parseSource(src); err != nil {
		return q, &usageError{err}
	}
	if q.target, err = parseTarget(dst); err != nil {
		return q, &usageError{err}
	}
	switch {
	case flags.only4 && flags.only6:
		return q, usagef("--ipv4 and --ipv6 exclude each other")
	case flags.only4:
		q.family = 4
	case flags.only6:
		q.family = 6
	}
	if flags.icmpType < -1 || flags.icmpType > 255 || flags.icmpCode < -1 || flags.icmpCode > 255 {
		return q, usagef("ICMP types and codes are 0 to 255")
	}
	given := flags.icmpType >= 0 || flags.icmpCode >= 0
	switch {
	case q.target.protocol == 0 && !given:
		return q, usagef("destination %q: the port is missing; expected %s", dst, targetForm)
	case q.target.protocol == 0:
		q.target.protocol = protoICMP
	case given && !isICMP(uint32(q.target.protocol)):
		return q, usagef("--icmp-type and --icmp-code go with DST or DST:icmp, not with a port")
	case flags.sourcePort != 0 && !hasPorts(uint32(q.target.protocol)):
		return q, usagef("--source-port: %s has no ports", protocolName(uint32(q.target.protocol)))
	}
	if flags.icmpCode >= 0 && flags.icmpType < 0 {
		return q, usagef("--icmp-code needs --icmp-type")
	}
	if q.target.protocol == protoICMPv6 {
		if q.family == 4 {
			return q, usagef("icmpv6 and --ipv4 exclude each other")
		}
		q.family = 6
	}
	q.icmpCode = uint32(max(flags.icmpCode, 0))
	q.icmpType = uint32(max(flags.icmpType, 0))
	return q, nil
}

func (a *app) explain(ctx context.Context, srcArg, dstArg string, flags explainFlags) error {
	q, err := parseQuestion(srcArg, dstArg, flags)
	if err != nil {
		return err
	}
	if err := a.choose(ctx, q.source); err != nil {
		return err
	}
	fw, err := a.forwarder()
	if err != nil {
		return err
	}
	defer fw.Close()
	src, _, err := a.locateAnywhere(ctx, fw, q.source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	dst, _, err := a.locateAnywhere(ctx, fw, q.target.host)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	from, to, err := meet(src, dst, q.family)
	if err != nil {
		return err
	}
	req := &dataplanev1.ExplainRequest{Tuple: &dataplanev1.Tuple{
		Src: from.String(), Dst: to.String(), Protocol: uint32(q.target.protocol),
		SrcPort: uint32(flags.sourcePort), DstPort: uint32(q.target.port),
	}}
	if isICMP(uint32(q.target.protocol)) {
		if to.Is6() {
			req.Tuple.Protocol = protoICMPv6
		}
		req.IcmpType, req.IcmpCode = q.icmpType, q.icmpCode
		if flags.icmpType < 0 {
			req.IcmpType = echoRequest(to.Is6())
		}
		req.Tuple.DstPort = req.IcmpType<<8 | req.IcmpCode
	}
	res, err := fw.Explain(ctx, req)
	if err != nil {
		return err
	}
	if err := a.print(res, func(w io.Writer) error { return a.showExplanation(w, src, dst, req, res) }); err != nil {
		return err
	}
	switch res.GetVerdict() {
	case "allow":
		return nil
	case "deny":
		return errDenied
	}
	return fmt.Errorf("the forwarder gave the verdict %q, which this netioctl does not know", res.GetVerdict())
}

func echoRequest(is6 bool) uint32 {
	if is6 {
		return 128
	}
	return 8
}

func (a *app) showExplanation(w io.Writer, src, dst place, req *dataplanev1.ExplainRequest, res *dataplanev1.ExplainResponse) error {
	t := req.GetTuple()
	what := protocolOf(t)
	if hasPorts(t.GetProtocol()) {
		what += " port " + strconv.FormatUint(uint64(t.GetDstPort()), 10)
	}
	fmt.Fprintf(w, "%s -> %s, %s\n\n", called(src, t.GetSrc()), called(dst, t.GetDst()), what)
	steps := newTable(right("STEP"), left("STAGE"), []column{{title: "VERDICT", paint: a.verdict}}, left("RULE", "WHY"))
	last := &dataplanev1.ExplainStep{}
	for _, s := range res.GetSteps() {
		if s.GetVerdict() == "drop" && last.GetVerdict() == "deny" && s.GetStage() == last.GetStage() {
			continue // says once more what the rule has done
		}
		why := s.GetDetail()
		if s.GetRule() != "" {
			why = strings.ReplaceAll(why, "; ", "\n") // the rules that were looked at
		}
		steps.add(strconv.Itoa(len(steps.rows)+1), s.GetStage(), s.GetVerdict(), s.GetRule(), why)
		last = s
	}
	if err := steps.write(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s%s\n", a.verdict(res.GetVerdict()), printable(decision(res)))
	return nil
}

func called(p place, addr string) string {
	if strings.HasSuffix(p.label, addr) {
		return printable(p.label)
	}
	return fmt.Sprintf("%s (%s)", printable(p.label), addr)
}

// decision names what decided: the step that stopped the packet, or the rules
// that let it through.
func decision(res *dataplanev1.ExplainResponse) string {
	var by []string
	for _, s := range res.GetSteps() {
		switch v := s.GetVerdict(); {
		case v == "deny" || v == "drop":
			if s.GetRule() == "" {
				return ": stopped by " + s.GetStage()
			}
			return fmt.Sprintf(": stopped by %s, rule %s", s.GetStage(), s.GetRule())
		case (v == "allow" || v == "audit") && s.GetRule() != "":
			by = append(by, fmt.Sprintf("%s, rule %s", s.GetStage(), s.GetRule()))
		}
	}
	if len(by) == 0 {
		return ": no rule is against it"
	}
	return ": " + strings.Join(by, "; ")
}
