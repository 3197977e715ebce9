package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Prometheus is a sink that serves the newest record at /metrics, for a Prometheus server to scrape.
type Prometheus struct {
	address string
	server  *http.Server
	done    chan error // what Serve returned

	gauges   []gauge
	epoch    *prometheus.GaugeVec
	val, bpb prometheus.Gauge
}

type gauge struct {
	prometheus.Gauge
	value func(Record) float64
}

// OpenPrometheus listens on address, such as "localhost:9464". There is no password: keep it on the loopback interface
// unless the network is trusted. With port 0 the system picks one, see [Prometheus.Address].
func OpenPrometheus(address string) (*Prometheus, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve Prometheus metrics at %s: %w", address, err)
	}
	registry := prometheus.NewRegistry()
	newGauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "pretrain", Name: name, Help: help})
		registry.MustRegister(g) // panics on a name used twice below, on every start
		return g
	}
	p := &Prometheus{address: listener.Addr().String(), done: make(chan error, 1)}
	for _, g := range []struct {
		name, help string
		value      func(Record) float64
	}{
		{"step", "Number of the newest update, from 0.", func(r Record) float64 { return float64(r.Step) }},
		{"tokens", "Tokens trained on so far.", func(r Record) float64 { return float64(r.Tokens) }},
		{"loss", "Training loss in nats per token.", func(r Record) float64 { return float64(r.Loss) }},
		{"learning_rate", "Global learning rate.", func(r Record) float64 { return float64(r.LR) }},
		{"grad_norm", "Global gradient norm before clipping.", func(r Record) float64 { return float64(r.GradNorm) }},
		{"tokens_per_second", "Training speed.", func(r Record) float64 { return float64(r.TokensPerSecond) }},
		{"mfu", "Model FLOPs utilization, 0 to 1; NaN where the device's peak is not known.", func(r Record) float64 { return float64(r.MFU) }},
		{"batch_tokens", "Tokens of the newest update.", func(r Record) float64 { return float64(r.BatchTokens) }},
		{"skipped_updates", "Updates left out: not finite, a spike, or near one.", func(r Record) float64 { return float64(r.Skipped) }},
		{"spikes", "Updates whose loss or gradient norm was far beyond those before.", func(r Record) float64 { return float64(r.Spikes) }},
		{"step_seconds", "Time of the newest update.", func(r Record) float64 { return float64(r.StepMS) / 1e3 }},
		{"data_wait_seconds", "Part of it spent waiting for the batch.", func(r Record) float64 { return float64(r.DataWaitMS) / 1e3 }},
	} {
		p.gauges = append(p.gauges, gauge{newGauge(g.name, g.help), g.value})
	}
	p.val = newGauge("val_loss", "Newest validation loss in nats per token.")
	p.bpb = newGauge("val_bits_per_byte", "Newest validation loss in bits per byte.")
	p.epoch = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "pretrain", Name: "epoch", Help: "How often each source has been gone through.",
	}, []string{"source"})
	registry.MustRegister(p.epoch)

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { p.done <- p.server.Serve(listener) }()
	return p, nil
}

// Address is the host and port it listens on.
func (p *Prometheus) Address() string { return p.address }

// Write implements [Sink].
func (p *Prometheus) Write(r Record) error {
	for _, g := range p.gauges {
		g.Set(g.value(r))
	}
	for source, epoch := range r.Epoch {
		p.epoch.WithLabelValues(source).Set(epoch)
	}
	if r.Eval != nil {
		p.val.Set(float64(r.ValLoss))
		p.bpb.Set(float64(r.ValBPB))
	}
	return nil
}

// Flush implements [Sink]; nothing is kept here.
func (p *Prometheus) Flush() error { return nil }

// Close implements [Sink]. A scrape under way has a second to end.
func (p *Prometheus) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := p.server.Shutdown(ctx)
	if served := <-p.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("serve Prometheus metrics at %s: %w", p.address, err)
	}
	return nil
}
