// SPDX-License-Identifier: Apache-2.0

// Package suite runs the Kubernetes end-to-end suite in a cluster that is up:
// what every network plugin is judged by.
//
//	build suite and images ── import images on all nodes
//	── ginkgo, in the network between the nodes ──> e2e.test ──> API server, nodes
//	                                                  └─ log/suite/junit_01.xml ──> summary
package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/cluster"
	"netio.dev/netio/test/kind/topology"
)

var (
	// ErrFailed is returned if specs failed.
	ErrFailed = errors.New("the suite failed")
	// ErrNothing is returned if there was no spec to run.
	ErrNothing = errors.New("no spec was run")
)

// Network is the focus on specs of the network.
const Network = `\[sig-network\]`

const (
	// timeLimit is more than all specs take one after the other.
	timeLimit = 12 * time.Hour
	// endPatience is how long the runner may take, when it is told to end, to
	// clean up.
	endPatience = 2 * time.Minute
)

// Options of Run.
type Options struct {
	Cluster *cluster.Cluster
	// Source is the top of NetIO's source tree.
	Source string
	// Focus and Skip are regular expressions for names of specs. Those that
	// cannot run here are skipped anyhow.
	Focus, Skip string
	// Procs is how many specs run at a time.
	Procs int
	Out   io.Writer
}

// Run builds what is not built, and runs the suite. Errors: ErrFailed, ErrNothing.
func Run(ctx context.Context, o Options) error {
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(o.Out, "%6.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	dir := o.Cluster.Dir
	b := artifact.Builder{Dir: dir, Source: o.Source, Say: say}
	if err := b.BuildSuite(ctx); err != nil {
		return err
	}
	archive, err := filepath.Rel(dir.Images(), filepath.Join(dir.SuiteImages(), artifact.SuiteArchive))
	if err != nil {
		return err
	}
	if err := o.Cluster.ImportImages(ctx, archive); err != nil {
		return err
	}
	say("nodes have the suite's images")
	if err := os.RemoveAll(dir.SuiteLog()); err != nil {
		return fmt.Errorf("remove old report: %w", err)
	}
	if err := os.MkdirAll(dir.SuiteLog(), 0o755); err != nil {
		return fmt.Errorf("make folder of the report: %w", err)
	}
	ended := o.runner(ctx)
	report, err := readReport(filepath.Join(dir.SuiteLog(), reportFile))
	if err != nil {
		return errors.Join(ended, err)
	}
	report.print(o.Out)
	say("report and output: %s", dir.SuiteLog())
	switch failed := report.count(failed); {
	case failed > 0:
		return fmt.Errorf("%w: %d specs", ErrFailed, failed)
	case ended != nil:
		return ended
	case report.count(passed) == 0:
		return fmt.Errorf("%w: focus %q", ErrNothing, o.Focus)
	}
	return nil
}

// reportFile is the name that the suite gives its report.
const reportFile = "junit_01.xml"

// runner runs ginkgo, and waits for it.
func (o Options) runner(ctx context.Context) error {
	skip, err := skipExpression(o.Skip)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(o.Cluster.Dir.SuiteLog(), "output.log"))
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	args := o.Cluster.FabricCommand(o.arguments(skip)...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = o.Cluster.Dir.SuiteLog()
	cmd.Env = append(os.Environ(), "PATH="+o.Cluster.Dir.Bin()+":"+os.Getenv("PATH"))
	cmd.Stdout = io.MultiWriter(o.Out, log)
	cmd.Stderr = cmd.Stdout
	// Told to end once, specs remove what they have made; told twice, they do not.
	// So a terminal's interrupt is to come by way of ctx alone, and to all of the
	// runner's processes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = endPatience
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run the suite: %w", err)
	}
	return nil
}

// arguments are the runner's command line.
func (o Options) arguments(skip string) []string {
	bin, log := o.Cluster.Dir.Bin(), o.Cluster.Dir.SuiteLog()
	return []string{filepath.Join(bin, artifact.SuiteRunner),
		"--procs=" + strconv.Itoa(o.Procs), "--timeout=" + timeLimit.String(), "--no-color", "--silence-skips",
		"--focus=" + o.Focus, "--skip=" + skip,
		filepath.Join(bin, artifact.SuiteProgram), "--",
		"--provider=skeleton", "--kubeconfig=" + o.Cluster.Kubeconfig(), "--kubectl-path=" + filepath.Join(bin, "kubectl"),
		"--num-nodes=" + strconv.Itoa(len(o.Cluster.Nodes)), "--dns-domain=" + topology.Domain, "--report-dir=" + log, "--e2e-output-dir=" + log, "--disable-log-dump",
	}
}
