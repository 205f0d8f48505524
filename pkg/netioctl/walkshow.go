// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// showWalk prints a walk as the output format says.
func (a *app) showWalk(w *walk, src, dst place) error {
	if a.format == formatTable {
		out := bufio.NewWriter(a.out)
		if err := a.walkTable(out, w, src, dst); err != nil {
			return err
		}
		return out.Flush()
	}
	type nodeTrace struct {
		Node  string          `json:"node"`
		Trace json.RawMessage `json:"trace"`
	}
	doc := struct {
		Verdict string      `json:"verdict"`
		End     string      `json:"end"`
		Nodes   []nodeTrace `json:"nodes"`
	}{Verdict: w.last().res.GetVerdict(), End: w.end}
	for _, at := range w.ways {
		b, err := marshal(at.res)
		if err != nil {
			return err
		}
		doc.Nodes = append(doc.Nodes, nodeTrace{at.node, b})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // ">" is in what the stages say
	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return a.printJSON(b.Bytes())
}

func (a *app) walkTable(out io.Writer, w *walk, src, dst place) error {
	t := w.ways[0].res.GetTuple()
	what := protocolOf(t)
	if hasPorts(t.GetProtocol()) {
		what += " port " + strconv.FormatUint(uint64(t.GetDstPort()), 10)
	}
	src.label, dst.label = cmp.Or(src.label, t.GetSrc()), cmp.Or(dst.label, t.GetDst())
	fmt.Fprintf(out, "%s -> %s, %s, %d bytes\n", called(src, t.GetSrc()), called(dst, t.GetDst()), what, w.ways[0].res.GetLength())
	steps := 0
	for i, at := range w.ways {
		fmt.Fprintln(out)
		if at.node != "" {
			fmt.Fprintf(out, "Node %s\n", printable(at.node))
		}
		if i > 0 {
			fmt.Fprintf(out, "as it comes: %s > %s\n", source(at.res.GetTuple()), destination(at.res.GetTuple()))
		}
		table := newTable(right("STEP"), left("STAGE"), []column{{title: "VERDICT", paint: a.verdict}}, left("BY", "WHY"))
		last := &dataplanev1.TraceStage{}
		for _, s := range at.res.GetStages() {
			if s.GetVerdict() == "drop" && last.GetVerdict() == "deny" && s.GetStage() == last.GetStage() {
				continue // says once more what the rule has done
			}
			why := s.GetDetail()
			if s.GetRule() != "" && strings.HasSuffix(s.GetStage(), "policy") {
				why = strings.ReplaceAll(why, "; ", "\n") // the rules that were looked at
			}
			steps++
			table.add(strconv.Itoa(steps), s.GetStage(), s.GetVerdict(), s.GetRule(), why)
			last = s
		}
		if err := table.write(out); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\n%s\n", a.conclusion(w))
	if w.hint != "" {
		fmt.Fprintf(out, "\n%s\n", strings.ReplaceAll(w.hint, "netioctl ", a.name+" "))
	}
	return nil
}

// conclusion is how the walk ends: who has the packet, or who has dropped it.
func (a *app) conclusion(w *walk) string {
	res := w.last().res
	if res.GetVerdict() != "dropped" {
		word, rest, _ := strings.Cut(w.end, " ")
		return a.painted(green, word) + printable(" "+rest)
	}
	s := ": " + res.GetReason()
	if res.GetReason() == "" {
		s = ": no port brings it"
	}
	for _, stage := range res.GetStages() {
		if v := stage.GetVerdict(); v == "deny" || v == "drop" {
			s += ", by " + stage.GetStage()
			if stage.GetRule() != "" {
				s += ", " + stage.GetRule()
			}
			break
		}
	}
	for _, p := range res.GetSent() {
		if p.GetAnswer() {
			s += "; the sender is told by ICMP"
			break
		}
	}
	return a.painted(red, "dropped") + printable(s)
}
