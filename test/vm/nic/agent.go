// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

const socket = "/run/netio/forwarder.sock"

// agent calls the forwarder of netio-agent.
func agent(call func(ctx context.Context, conn *grpc.ClientConn) error) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return call(ctx, conn)
}

func apply(text string) error {
	var req dataplanev1.ApplyRequest
	if err := protojson.Unmarshal([]byte(text), &req); err != nil {
		return err
	}
	return agent(func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := dataplanev1.NewConfigurationClient(conn).Apply(ctx, &req)
		return err
	})
}

func printPorts() error {
	return agent(func(ctx context.Context, conn *grpc.ClientConn) error {
		list, err := dataplanev1.NewObservationClient(conn).ListPorts(ctx, &dataplanev1.ListPortsRequest{})
		if err != nil {
			return err
		}
		for _, p := range list.Ports {
			state := "down"
			if p.Up {
				state = "up"
			}
			fmt.Println(p.Config.Name, p.Id, state, p.Error)
		}
		return nil
	})
}

func replace() error {
	pid := func() (pid uint32, err error) {
		return pid, agent(func(ctx context.Context, conn *grpc.ClientConn) error {
			s, err := dataplanev1.NewObservationClient(conn).Status(ctx, &dataplanev1.StatusRequest{})
			pid = s.GetPid()
			return err
		})
	}
	was, err := pid()
	if err != nil {
		return err
	}
	if err := syscall.Kill(int(was), syscall.SIGKILL); err != nil {
		return err
	}
	for now := was; now == was; {
		if now, err = pid(); err != nil {
			return err
		}
	}
	return nil
}
