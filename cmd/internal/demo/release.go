package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startNATS starts a nats-server with JetStream inside this process, on a free
// loopback port, with its files in dir.
func startNATS(dir string) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "demo", Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: dir, SyncAlways: true,
		NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make nats-server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("start nats-server: not ready after 10 s")
	}
	return s, nil
}

// Publish announces the candidate's version on JetStream as a release pipeline
// would: a structured CloudEvent. It creates the stream when there is none and
// returns once the message is stored.
func (w *World) Publish(ctx context.Context) error {
	nc, err := nats.Connect(w.nats.ClientURL(), nats.Timeout(2*time.Second))
	if err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{subjectRoot + ".>"}, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return fmt.Errorf("create stream: %w", err)
	}
	body, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": "release-" + CandidateVersion, "source": "/pipelines/" + PolicyName,
		"type": "models.approved", "time": time.Now().UTC().Format(time.RFC3339), "datacontenttype": "application/json",
		"data": map[string]string{"policy": PolicyName, "deployment": Candidate, "version": CandidateVersion},
	})
	if err != nil {
		return fmt.Errorf("encode release: %w", err)
	}
	msg := nats.NewMsg(subjectRoot + "." + PolicyName)
	msg.Header.Set("Content-Type", "application/cloudevents+json")
	msg.Data = body
	if _, err := js.PublishMsg(ctx, msg, jetstream.WithMsgID("release-"+CandidateVersion)); err != nil {
		return fmt.Errorf("publish release: %w", err)
	}
	return nil
}
