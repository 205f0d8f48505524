// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
)

// RelayCommand is netioctl's subcommand that copies between a socket and its standard
// input and output; Greeting is what it writes when the socket is open.
const (
	RelayCommand = "relay"
	Greeting     = "netioctl relay\n"
)

// maxComplaint is how much of a command's complaints is kept, in bytes.
const maxComplaint = 4096

// Run executes netioctl in the pod of a node's agent; in may be nil.
func (c *Cluster) Run(ctx context.Context, node string, in io.Reader, out io.Writer, args ...string) error {
	p, err := c.agent(ctx, node)
	if err != nil {
		return err
	}
	return c.RunIn(ctx, p, agentContainer, in, out, args...)
}

// RunIn executes netioctl in a container whose image has it; in may be nil.
func (c *Cluster) RunIn(ctx context.Context, p *corev1.Pod, container string, in io.Reader, out io.Writer, args ...string) error {
	request := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(p.Namespace).Name(p.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: append([]string{"netioctl"}, args...), Stdin: in != nil, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	socket, err := remotecommand.NewWebSocketExecutor(c.config, "GET", request.String())
	if err != nil {
		return fmt.Errorf("execute in %s: %w", p.Name, err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(c.config, "POST", request)
	if err != nil {
		return fmt.Errorf("execute in %s: %w", p.Name, err)
	}
	// Proxies and servers before 1.31 may not know web sockets for this.
	executor, err := remotecommand.NewFallbackExecutor(socket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return fmt.Errorf("execute in %s: %w", p.Name, err)
	}
	complaint := &limited{left: maxComplaint}
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: out, Stderr: complaint}); err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" {
			return fmt.Errorf("pod %s on node %s: %s", p.Name, p.Spec.NodeName, text)
		}
		return fmt.Errorf("execute in pod %s/%s on node %s: %w", p.Namespace, p.Name, p.Spec.NodeName, explain(err, "create pods/exec in namespace "+p.Namespace))
	}
	return nil
}

// limited keeps the beginning of what is written to it.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	_, _ = l.Buffer.Write(p[:n])
	return len(p), nil
}

// Dial connects to a unix socket in the container of a node's agent. It returns when the
// socket is open; ctx bounds that alone.
func (c *Cluster) Dial(ctx context.Context, node, socket string) (net.Conn, error) {
	p, err := c.agent(ctx, node)
	if err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	living, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := c.RunIn(living, p, agentContainer, there, there, RelayCommand, socket)
		ended <- err
		there.Close()
	}()
	stop := context.AfterFunc(ctx, end)
	greeting := make([]byte, len(Greeting))
	_, err = io.ReadFull(here, greeting)
	if err == nil && string(greeting) != Greeting {
		err = fmt.Errorf("the netioctl in pod %s on node %s answers %q: is it of another version?", p.Name, node, greeting)
	}
	if err != nil {
		end()
		here.Close()
		if why := <-ended; why != nil && ctx.Err() == nil {
			err = why
		}
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), fmt.Errorf("reach the agent of node %s", node))
		}
		return nil, err
	}
	stop()
	return &conn{here, end}, nil
}

// conn ends what it leads to.
type conn struct {
	net.Conn
	end context.CancelFunc
}

func (c *conn) Close() error {
	defer c.end()
	return c.Conn.Close()
}
