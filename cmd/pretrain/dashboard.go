package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"pretrain/internal/vfs"
	"pretrain/train/report"

	"github.com/spf13/cobra"
)

func newDashboard(stdout io.Writer) *cobra.Command {
	var address string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "dashboard [DIR]", Short: "Serve the reports of all runs in a folder, live, on this machine",
		Long: `Serve the reports of all runs in a folder (default runs) and below it, while they train: the page of "pretrain report", of one
run or of several compared, which follows the runs as they go on. It only reads. It answers on this machine's loopback alone;
to look on from elsewhere, forward the port: ssh -L 8088:127.0.0.1:8088 HOST.`,
		Example: "  pretrain dashboard runs\n  pretrain dashboard runs --listen 127.0.0.1:9000",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return noArgs(cmd, args[1:])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "runs"
			if len(args) > 0 {
				dir = args[0]
			}
			dir, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				return usagef("%s: no such folder: give the one that holds the runs", dir)
			}
			return serveDashboard(cmd.Context(), dir, address, asJSON, stdout)
		},
	}
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8088", "`HOST:PORT`, of a loopback address; port 0 takes a free one")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object that has the page's address")
	return cmd
}

// serveDashboard serves until ctx ends.
func serveDashboard(ctx context.Context, dir, address string, asJSON bool, stdout io.Writer) error {
	if host, _, err := net.SplitHostPort(address); err != nil || host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return usagef("--listen %s: want a loopback address with a port, such as 127.0.0.1:8088", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen (choose another with --listen): %w", err)
	}
	url := fmt.Sprintf("http://%s/", listener.Addr())
	if asJSON {
		err = printJSON(stdout, struct {
			URL string `json:"url"`
			Dir string `json:"dir"`
		}{url, dir})
	} else {
		_, err = fmt.Fprintf(stdout, "%s shows the runs in %s; Ctrl-C ends it\n", url, dir)
	}
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: report.NewLive(vfs.OS, dir, describePage), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }, // ends the streams of events
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
